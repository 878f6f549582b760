/* SPDX-License-Identifier: MIT */
#include "probe.h"

const struct probe_suite probe_3d = {0};
