/* Ping-pong between the first two ranks: one line "latency_s bytes_per_s". Latency is half of the median round trip of one byte;
 * the rate is that of the median round trip of 4 MiB each way. */

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { LARGE = 4 << 20, SMALL_ROUNDS = 2000, LARGE_ROUNDS = 60, WARM = 10 };

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median time of a message there and back. */
static double round_trip(int rank, char *buffer, int bytes, int rounds) {
    double *took = malloc(sizeof *took * (size_t)rounds);
    for (int i = -WARM; i < rounds; i++) {
        double started = MPI_Wtime();
        if (rank == 0) {
            MPI_Send(buffer, bytes, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
            MPI_Recv(buffer, bytes, MPI_BYTE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else {
            MPI_Recv(buffer, bytes, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(buffer, bytes, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
        }
        if (i >= 0) took[i] = MPI_Wtime() - started;
    }
    qsort(took, (size_t)rounds, sizeof *took, ascending);
    double median = took[rounds / 2];
    free(took);
    return median;
}

int main(int argc, char **argv) {
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (ranks < 2) {
        fprintf(stderr, "pingpong: two ranks are needed\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    char *buffer = calloc(1, LARGE);
    if (rank < 2) {
        double small = round_trip(rank, buffer, 1, SMALL_ROUNDS);
        double large = round_trip(rank, buffer, LARGE, LARGE_ROUNDS);
        if (rank == 0) printf("%.9f %.0f\n", small / 2, 2.0 * LARGE / large);
    }
    free(buffer);
    return MPI_Finalize();
}
