#!/usr/bin/awk -f
# Measurements in, monthly figures and a list of what was refused out. The #! line says what runs a script: here it is awk.
# A script in any language gets its input file by the same two variables.

BEGIN {
    FS = ","
    input = ENVIRON["INPUT_FILE_PATH"]
    out = ENVIRON["TMP_OUTPUT_DIR"]
    name = input
    sub(/.*\//, "", name)
    sub(/\.csv$/, "", name)
    monthly = out "/" name ".monthly.csv"
    refused = out "/" name ".refused.txt"

    while ((getline line < input) > 0) {
        sub(/\r$/, "", line)
        number++
        if (number == 1 || line == "") continue
        if (why = wrong(line)) {
            print number ": " why ": " line > refused
            bad++
            continue
        }
        split(line, field, ",")
        key = field[2] "," substr(field[1], 1, 7)
        count[key]++
        sum[key] += field[3]
        if (count[key] == 1 || field[3] < least[key]) least[key] = field[3]
        if (count[key] == 1 || field[3] > most[key]) most[key] = field[3]
    }
    if (number < 2) {
        print "there is no measurement in " name > "/dev/stderr"
        exit 1
    }
    print "station,month,measurements,mean,least,most" > monthly
    for (key in count) {
        good += count[key]
        for (at = ++rows; at > 1 && order[at - 1] > key; at--) order[at] = order[at - 1]
        order[at] = key
    }
    for (at = 1; at <= rows; at++) {
        key = order[at]
        printf "%s,%d,%.2f,%.1f,%.1f\n", key, count[key], sum[key] / count[key], least[key], most[key] > monthly
    }
    print name ": " good " measurements, " bad + 0 " lines refused"
}

# Why a line is no measurement; nothing when it is one.
function wrong(line,    field) {
    if (split(line, field, ",") != 3) return "not three fields"
    if (field[1] !~ /^[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]$/) return "no date"
    if (field[2] !~ /^[A-Za-z][A-Za-z0-9-]*$/) return "no station"
    if (field[3] !~ /^-?[0-9]+(\.[0-9]+)?$/) return "no number"
    if (field[3] < -90 || field[3] > 60) return "no temperature on Earth"
    return ""
}
