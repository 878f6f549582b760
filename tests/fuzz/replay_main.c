/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzz target over the files given, or over the files in the folders given, without
 * libFuzzer: so that a corpus replays in every build, whatever the compiler.
 */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

#define INPUT_BYTES_MAX ((size_t)1024 * 1024)

static unsigned n_replayed;

static void replay_file(const char *path)
{
    FILE *f = fopen(path, "rbe");
    uint8_t *bytes = malloc(INPUT_BYTES_MAX);
    if (f == NULL || bytes == NULL) {
        perror(path);
        exit(1);
    }
    size_t n_bytes = fread(bytes, 1, INPUT_BYTES_MAX, f);
    (void)fclose(f);
    uint8_t *exact = malloc(n_bytes > 0 ? n_bytes : 1); /* exact size: ASan sees an over-read */
    if (exact == NULL) {
        perror(path);
        exit(1);
    }
    memcpy(exact, bytes, n_bytes);
    free(bytes);
    (void)LLVMFuzzerTestOneInput(exact, n_bytes);
    free(exact);
    n_replayed++;
}

static void replay(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        perror(path);
        exit(1);
    }
    if (!S_ISDIR(st.st_mode)) {
        replay_file(path);
        return;
    }
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.') {
            char inner[4096];
            (void)snprintf(inner, sizeof(inner), "%s/%s", path, names[i]->d_name);
            replay_file(inner);
        }
        free(names[i]);
    }
    if (n >= 0) {
        free(names);
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        replay(argv[i]);
    }
    printf("%u inputs replayed\n", n_replayed);
    return n_replayed > 0 ? 0 : 1;
}
