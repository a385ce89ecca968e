"""What is left of the promises when anything breaks at any moment: kills, full disks, lost answers, clocks that jump."""
