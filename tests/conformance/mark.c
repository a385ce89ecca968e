/* A library for LD_PRELOAD: whoever maps it can be told by its name in /proc/self/maps. */
int conformance_mark(void) { return 42; }
