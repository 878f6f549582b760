/* SPDX-License-Identifier: MIT */
#include "probe.h"

const struct probe_suite probe_rings = {0};
