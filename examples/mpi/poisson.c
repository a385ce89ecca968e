/* Solve -Δu = f on the unit square with u = 0 on its border, by conjugate gradients, on as many processes as there are.
 *
 *     poisson PARAMETERS RESULT
 *
 * The square is a grid of N × N inner points. Each process has some of its rows, gets the rows next to them from its neighbours, and all
 * add up what they have with MPI_Allreduce. f is chosen so that the answer is known: u = x(1-x)y(1-y), for which the five-point
 * stencil is exact. So the program knows whether it was right, and ends with 1 when it was not: then nothing of it is worth publishing.
 */

#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GRID_MAX = 20000 };

typedef struct {
    int grid;          /* inner points in each direction */
    int iterations;    /* at most */
    double tolerance;  /* the residual's size, against that of f */
} Parameters;

typedef struct {
    int grid, first, rows;    /* this process has `rows` rows of the grid, from `first` on */
    int above, below;         /* the ranks that have the rows next to them */
} Part;

static int rank, ranks;

static void stop(const char *why) {
    fprintf(stderr, "poisson: %s\n", why);
    MPI_Abort(MPI_COMM_WORLD, 2);
}

/* Lines of "name = number"; what follows a # is for people. Read by rank 0 alone: only it is sure to have the file. */
static Parameters read_parameters(const char *path) {
    Parameters wanted = {0, 10000, 1e-10};
    FILE *file = fopen(path, "r");
    if (file == NULL) stop("the file of parameters cannot be read");
    char line[256], name[32];
    double value;
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "#")] = '\0';
        if (sscanf(line, " %31[a-z] = %lf", name, &value) != 2) {
            if (strspn(line, " \t\r\n") != strlen(line)) stop("a line of parameters is not `name = number`");
        } else if (strcmp(name, "grid") == 0) {
            wanted.grid = (int)value;
        } else if (strcmp(name, "iterations") == 0) {
            wanted.iterations = (int)value;
        } else if (strcmp(name, "tolerance") == 0) {
            wanted.tolerance = value;
        } else {
            stop("there are three parameters: grid, iterations and tolerance");
        }
    }
    fclose(file);
    if (wanted.grid < ranks || wanted.grid > GRID_MAX) stop("grid: at least one row for each process, and at most 20000 rows");
    return wanted;
}

static Part part_of(int grid) {
    Part part = {.grid = grid};
    part.first = (int)((long)grid * rank / ranks);
    part.rows = (int)((long)grid * (rank + 1) / ranks) - part.first;
    part.above = rank > 0 ? rank - 1 : MPI_PROC_NULL;
    part.below = rank < ranks - 1 ? rank + 1 : MPI_PROC_NULL;
    return part;
}

/* A vector: the rows of this process, with one row more at either end and one zero more at either side. */
static double *vector(const Part *part) {
    double *made = calloc((size_t)(part->rows + 2) * (part->grid + 2), sizeof *made);
    if (made == NULL) stop("out of memory");
    return made;
}

static double *row(const Part *part, double *v, int number) { return v + (size_t)number * (part->grid + 2); }

static double sum_of(double mine) {
    double all;
    MPI_Allreduce(&mine, &all, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    return all;
}

static double dot(const Part *part, double *a, double *b) {
    double mine = 0;
    for (int i = 1; i <= part->rows; i++)
        for (int j = 1; j <= part->grid; j++) mine += row(part, a, i)[j] * row(part, b, i)[j];
    return sum_of(mine);
}

/* out = A v, where A is the five-point stencil times h². */
static void apply(const Part *part, double *v, double *out) {
    int width = part->grid + 2;
    MPI_Sendrecv(row(part, v, 1), width, MPI_DOUBLE, part->above, 0, row(part, v, part->rows + 1), width, MPI_DOUBLE, part->below, 0,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Sendrecv(row(part, v, part->rows), width, MPI_DOUBLE, part->below, 1, row(part, v, 0), width, MPI_DOUBLE, part->above, 1,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int i = 1; i <= part->rows; i++) {
        double *up = row(part, v, i - 1), *at = row(part, v, i), *down = row(part, v, i + 1), *to = row(part, out, i);
        for (int j = 1; j <= part->grid; j++) to[j] = 4 * at[j] - at[j - 1] - at[j + 1] - up[j] - down[j];
    }
}

/* Conjugate gradients from u = 0. Answers how many steps it took; `residual` is what is left, against the size of f. */
static int solve(const Part *part, const Parameters *wanted, double *u, double *f, double *residual) {
    double *direction = vector(part), *image = vector(part);
    size_t size = (size_t)(part->rows + 2) * (part->grid + 2);
    memcpy(direction, f, size * sizeof *f);
    double start = dot(part, f, f), now = start;  /* from here on f is the residual */
    int step = 0;
    while (step < wanted->iterations && sqrt(now / start) > wanted->tolerance) {
        apply(part, direction, image);
        double length = now / dot(part, direction, image);
        for (size_t k = 0; k < size; k++) {
            u[k] += length * direction[k];
            f[k] -= length * image[k];
        }
        double next = dot(part, f, f);
        for (size_t k = 0; k < size; k++) direction[k] = f[k] + next / now * direction[k];
        now = next;
        step++;
    }
    *residual = sqrt(now / start);
    free(direction);
    free(image);
    return step;
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (argc != 3) stop("usage: poisson PARAMETERS RESULT");

    Parameters wanted = {0};
    if (rank == 0) wanted = read_parameters(argv[1]);
    MPI_Bcast(&wanted, sizeof wanted, MPI_BYTE, 0, MPI_COMM_WORLD);

    Part part = part_of(wanted.grid);
    double h = 1.0 / (wanted.grid + 1);
    double *u = vector(&part), *f = vector(&part), *known = vector(&part);
    for (int i = 1; i <= part.rows; i++) {
        double y = h * (part.first + i);
        for (int j = 1; j <= part.grid; j++) {
            double x = h * j;
            row(&part, f, i)[j] = 2 * h * h * (x * (1 - x) + y * (1 - y));
            row(&part, known, i)[j] = x * (1 - x) * y * (1 - y);
        }
    }
    double began = MPI_Wtime(), residual;
    int steps = solve(&part, &wanted, u, f, &residual);
    double seconds = MPI_Wtime() - began;

    double far = 0, farthest, sum = 0;
    for (int i = 1; i <= part.rows; i++)
        for (int j = 1; j <= part.grid; j++) {
            far = fmax(far, fabs(row(&part, u, i)[j] - row(&part, known, i)[j]));
            sum += row(&part, u, i)[j];
        }
    MPI_Allreduce(&far, &farthest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    double integral = h * h * sum_of(sum);             /* 1/36, but for what the grid is coarse */
    double counted = sum_of(rank + 1);                 /* every process is there, and once */
    int right = farthest < 1e-7 && residual <= wanted.tolerance && counted == 0.5 * ranks * (ranks + 1);

    char name[MPI_MAX_PROCESSOR_NAME] = {0};
    int length;
    MPI_Get_processor_name(name, &length);
    char *names = rank == 0 ? calloc(ranks, sizeof name) : NULL;
    MPI_Gather(name, sizeof name, MPI_BYTE, names, sizeof name, MPI_BYTE, 0, MPI_COMM_WORLD);
    if (rank == 0) {
        FILE *result = fopen(argv[2], "w");
        if (result == NULL) stop("the result cannot be written");
        fprintf(result, "grid = %d\nranks = %d\niterations = %d\n", wanted.grid, ranks, steps);
        fprintf(result, "residual = %.2e\nerror = %.2e\nintegral = %.9f\n", residual, farthest, integral);
        for (int k = 0; k < ranks; k++) fprintf(result, "rank %d of %d on %s\n", k, ranks, names + (size_t)k * sizeof name);
        if (fclose(result) != 0) stop("the result cannot be written");
        printf("%s: %d ranks, %d iterations, error %.2e, %.2f s\n", right ? "right" : "WRONG", ranks, steps, farthest, seconds);
        fflush(stdout); /* before anybody ends with 1: then mpirun ends all the others */
    }
    MPI_Finalize();
    return right ? 0 : 1;
}
