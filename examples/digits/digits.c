/* Read the handwritten digits of a form: one digit in each box of 16 × 16 pixels, in a binary PGM picture.
 *
 * This program is the image's ENTRYPOINT: no script tells it what to do. INPUT_FILE_PATH and TMP_OUTPUT_DIR are all that it asks for.
 * The network has one hidden layer; its weights lie beside the program, in /model.txt.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BOX = 16, SIDE = 8, INPUTS = SIDE * SIDE, MOST_HIDDEN = 256, DIGITS = 10, MOST_SIDE = 8192 };

static int hidden;
static float first[MOST_HIDDEN][INPUTS], first_bias[MOST_HIDDEN], second[DIGITS][MOST_HIDDEN], second_bias[DIGITS];

static void stop(const char *why) {
    fprintf(stderr, "digits: %s\n", why);
    exit(2);
}

static void read_numbers(FILE *file, float *to, int count) {
    for (int i = 0; i < count; i++)
        if (fscanf(file, "%f", &to[i]) != 1) stop("the model ends too early");
}

static void read_model(const char *path) {
    FILE *file = fopen(path, "r");
    int inputs, outputs;
    if (file == NULL) stop("there is no model");
    if (fscanf(file, "%d %d %d", &inputs, &hidden, &outputs) != 3 || inputs != INPUTS || outputs != DIGITS || hidden < 1 || hidden > MOST_HIDDEN)
        stop("the model is of another shape");
    for (int i = 0; i < hidden; i++) read_numbers(file, first[i], INPUTS);
    read_numbers(file, first_bias, hidden);
    for (int i = 0; i < DIGITS; i++) read_numbers(file, second[i], hidden);
    read_numbers(file, second_bias, DIGITS);
    fclose(file);
}

static unsigned char *read_form(const char *path, int *width, int *height) {
    FILE *file = fopen(path, "rb");
    int most;
    if (file == NULL) stop("the form cannot be read");
    if (fscanf(file, "P5 %d %d %d", width, height, &most) != 3 || most != 255 || fgetc(file) == EOF) stop("the form is not a binary PGM");
    if (*width < BOX || *height < BOX || *width > MOST_SIDE || *height > MOST_SIDE) stop("the form has no box, or too many");
    size_t size = (size_t)*width * *height;
    unsigned char *form = malloc(size);
    if (form == NULL || fread(form, 1, size, file) != size) stop("the form ends too early");
    fclose(file);
    return form;
}

/* Ink of each of 8 × 8 fields of a box, from 0 to 1. */
static void look(const unsigned char *form, int width, int left, int top, float *ink) {
    const int step = BOX / SIDE;
    for (int i = 0; i < INPUTS; i++) {
        int sum = 0;
        for (int y = 0; y < step; y++)
            for (int x = 0; x < step; x++) sum += 255 - form[(size_t)(top + i / SIDE * step + y) * width + left + i % SIDE * step + x];
        ink[i] = (float)sum / (255 * step * step);
    }
}

static int recognise(const float *ink) {
    float inner[MOST_HIDDEN], best = 0;
    int digit = 0;
    for (int i = 0; i < hidden; i++) {
        inner[i] = first_bias[i];
        for (int k = 0; k < INPUTS; k++) inner[i] += first[i][k] * ink[k];
        if (inner[i] < 0) inner[i] = 0;
    }
    for (int i = 0; i < DIGITS; i++) {
        float sum = second_bias[i];
        for (int k = 0; k < hidden; k++) sum += second[i][k] * inner[k];
        if (i == 0 || sum > best) best = sum, digit = i;
    }
    return digit;
}

int main(void) {
    const char *input = getenv("INPUT_FILE_PATH"), *folder = getenv("TMP_OUTPUT_DIR");
    if (input == NULL || folder == NULL) stop("there is no file to work on: put one into the input folder");
    read_model("/model.txt");
    int width, height, count = 0;
    unsigned char *form = read_form(input, &width, &height);

    const char *slash = strrchr(input, '/'), *name = slash == NULL ? input : slash + 1;
    const char *dot = strrchr(name, '.');
    char path[4096];
    snprintf(path, sizeof path, "%s/%.*s.txt", folder, (int)(dot == NULL ? strlen(name) : (size_t)(dot - name)), name);
    FILE *out = fopen(path, "w");
    if (out == NULL) stop("the result cannot be written");
    for (int top = 0; top + BOX <= height; top += BOX) {
        for (int left = 0; left + BOX <= width; left += BOX, count++) {
            float ink[INPUTS];
            look(form, width, left, top, ink);
            fputc('0' + recognise(ink), out);
        }
        fputc('\n', out);
    }
    if (fclose(out) != 0) stop("the result cannot be written");
    printf("%s: %d digits\n", name, count);
    return 0;
}
