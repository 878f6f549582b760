/* SPDX-License-Identifier: MIT */
/*
 * The file of a recording. Whoever may write it opens it (vgdctl, or vgd for --record) and hands
 * the descriptor on; who takes it over checks it. Regular files are for most; a pipe or a socket
 * takes a recording elsewhere, /dev/null shows what recording costs.
 */
#ifndef VGD_BASE_RECORD_FILE_H
#define VGD_BASE_RECORD_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "status.h"

/**
 * Can @fd hold a recording from its beginning on? A regular file has to be empty and open for
 * reading and writing; a pipe, a stream socket, or /dev/null has to be open for writing, and
 * blocking. Nothing else will do.
 *
 * @why          untouched if it can; else a literal, for the user
 * @can_resume   untouched if not; a recording can be gone on with after it was cut off
 */
VGD_MUST_CHECK bool vgd_record_file_check(int fd, bool *can_resume, const char **why);

/**
 * Open @path for a recording, which is as private as what the guest does: a new file has mode 0600.
 * What is there and not empty is left as it is.
 *
 * @out_created  a regular file that was not there before: remove it if nothing is recorded after
 * all
 * @why          for the user, if it fails; a literal or strerror's
 *
 * Returns the descriptor, close-on-exec, the caller's; or -1.
 */
VGD_MUST_CHECK int vgd_record_file_open(const char *path, bool *out_created, const char **why);

#endif
