/* The probe: a program for images without a shell. It writes what it sees to facts, and its input in capitals to shout.
   No headers, so that one source compiles against either C library; the prototypes are the libraries' own. */
typedef void FILE;
int printf(const char *, ...);
int fprintf(FILE *, const char *, ...);
FILE *fopen(const char *, const char *);
int fclose(FILE *);
int fgetc(FILE *);
int fputc(int, FILE *);
char *getenv(const char *);
char *getcwd(char *, unsigned long);
int snprintf(char *, unsigned long, const char *, ...);
unsigned getuid(void);
unsigned getgid(void);
int access(const char *, int);
char *strrchr(const char *, int);
int toupper(int);

static const char *or_empty(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

int main(int count, char **words) {
    char path[4096];
    const char *out = getenv("TMP_OUTPUT_DIR"), *in = getenv("INPUT_FILE_PATH");
    static const char *const names[] = {"GREETING", "LD_LIBRARY_PATH", "LD_PRELOAD", "MINE", "PATH", "PYTHONHOME",
                                        "PYTHONPATH", "STORAGE_OBJECT_KEY", 0};
    FILE *facts, *from, *to;
    int i, c;

    printf("the probe ran\n");
    if (!out || !in)
        return 2;
    snprintf(path, sizeof path, "%s/facts", out);
    facts = fopen(path, "w");
    if (!facts)
        return 4;
    fprintf(facts, "arguments=");
    for (i = 1; i < count; i++)
        fprintf(facts, "%s%s", i > 1 ? "|" : "", words[i]);
    fprintf(facts, "\ncwd=%s\n", getcwd(path, sizeof path));
    fprintf(facts, "home=%s\n", access(or_empty("HOME"), 2) ? "no" : "writable");
    fprintf(facts, "input=%s\n", strrchr(in, '/') + 1);
    fprintf(facts, "runtime_api=%s\n", or_empty("AWS_LAMBDA_RUNTIME_API"));
    fprintf(facts, "user=%u:%u\n", getuid(), getgid());
    for (i = 0; names[i]; i++)
        fprintf(facts, "%s=%s\n", names[i], or_empty(names[i]));
    fclose(facts);
    snprintf(path, sizeof path, "%s/shout", out);
    from = fopen(in, "r");
    to = fopen(path, "w");
    if (!from || !to)
        return 5;
    while ((c = fgetc(from)) >= 0)
        fputc(toupper(c), to);
    fclose(to);
    return 0;
}
