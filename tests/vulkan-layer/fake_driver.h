/* SPDX-License-Identifier: MIT */
/*
 * A Vulkan driver that draws nothing: three devices, each with another reason to need the layer or
 * not. It is strict: what a driver without VK_EXT_external_memory_dma_buf must not be asked, it
 * refuses and counts. Loaded by the Vulkan loader; tests reach fake_seen by dlsym.
 */
#ifndef VGD_TEST_FAKE_DRIVER_H
#define VGD_TEST_FAKE_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#define FAKE_DEVICES 3
/* deviceUUID: 16 bytes of this. */
#define FAKE_UUID_BYTE(device) (0xa0 + (device))

/* Device 0 is like NVIDIA's without a DRM node: no dma-bufs, host pointers for types 1 and 2, no
 * sync files. */
#define FAKE_LIKE_NVIDIA 0
/* Device 1 does not import host pointers. */
#define FAKE_NO_IMPORT 1
/* Device 2 says that it imports, and then refuses each. */
#define FAKE_REFUSES 2

/* Of its one family. */
#define FAKE_QUEUES 3

#define FAKE_ALIGN_BYTES 65536u
#define FAKE_HEAP_BYTES (1ull << 30)
/* An import of this size fails with VK_ERROR_OUT_OF_DEVICE_MEMORY. */
#define FAKE_UNLUCKY_BYTES (5u * FAKE_ALIGN_BYTES)

struct fake_seen {
    unsigned dma_bufs; /* handle types that the driver does not know: must stay 0 */
    unsigned sync_fds; /* the same of semaphores */
    unsigned devices;  /* vkCreateDevice that succeeded */
    unsigned live_devices;
    unsigned imports; /* by host pointer */
    unsigned live_memories;
    unsigned queues;      /* of the last device */
    unsigned queue_index; /* the last that was asked for */
    unsigned opaque_fds;  /* imports into semaphores */
    unsigned signals;     /* semaphores signalled */
    uint64_t last_signal; /* the last of them */
    bool dedicated;       /* the last import came with a dedicated allocation */
    bool device_address;  /* ... with VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT */
    uint64_t last_bytes;  /* its allocationSize */
    uint32_t last_types;  /* handle types of the last external buffer or image */
};

#endif
