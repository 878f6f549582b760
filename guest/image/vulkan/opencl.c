// Computes with OpenCL in the guest, and compares every value with what the processor computes.
//
//   cl-compute [NAME]     on the first device whose name contains NAME
//
// Prints "device: NAME". Exit status: 0 every value right, 1 some wrong, 2 no such device, or it
// failed.
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT (64 * 1024)
#define GROUP 64
#define MAX_PLATFORMS 8
#define MAX_DEVICES 8

static const char text[] =
    "kernel void work(global const uint *in, global uint *out, global uint *sums, uint seed)\n"
    "{\n"
    "    local uint part[64];\n"
    "    uint i = get_global_id(0), lane = get_local_id(0);\n"
    "    uint x = (in[i] ^ seed) * 747796405u + 2891336453u;\n"
    "    x = rotate(x, 7u) ^ (x >> 9);\n"
    "    out[i] = x;\n"
    "    part[lane] = x;\n"
    "    barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    for (uint step = 32; step > 0; step >>= 1) {\n"
    "        if (lane < step)\n"
    "            part[lane] += part[lane + step];\n"
    "        barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    }\n"
    "    if (lane == 0)\n"
    "        sums[get_group_id(0)] = part[0];\n"
    "}\n";

static uint32_t expected(uint32_t word, uint32_t seed)
{
    uint32_t x = (word ^ seed) * UINT32_C(747796405) + UINT32_C(2891336453);
    return (x << 7 | x >> 25) ^ (x >> 9);
}

static void must(cl_int status, const char *what)
{
    if (status != CL_SUCCESS) {
        fprintf(stderr, "cl-compute: %s: error %d\n", what, status);
        exit(2);
    }
}

static cl_device_id find_device(const char *wanted)
{
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_uint n_platforms = 0, n_seen = 0;
    (void)clGetPlatformIDs(MAX_PLATFORMS, platforms, &n_platforms); // an error is no platform
    for (cl_uint i = 0; i < n_platforms && i < MAX_PLATFORMS; i++) {
        cl_device_id devices[MAX_DEVICES];
        cl_uint n_devices = 0;
        if (clGetDeviceIDs(platforms[i], CL_DEVICE_TYPE_ALL, MAX_DEVICES, devices, &n_devices) !=
            CL_SUCCESS) {
            continue;
        }
        for (cl_uint j = 0; j < n_devices && j < MAX_DEVICES; j++, n_seen++) {
            char name[256] = "";
            must(clGetDeviceInfo(devices[j], CL_DEVICE_NAME, sizeof(name), name, NULL),
                 "clGetDeviceInfo");
            if (strstr(name, wanted) != NULL) {
                printf("device: %s\n", name);
                return devices[j];
            }
        }
    }
    fprintf(stderr, "cl-compute: none of %u OpenCL devices is called %s\n", n_seen, wanted);
    exit(2);
}

int main(int argc, char **argv)
{
    static uint32_t in[COUNT], out[COUNT], sums[COUNT / GROUP];
    const uint32_t seed = 12345;
    cl_device_id device = find_device(argc > 1 ? argv[1] : "");
    cl_int status;
    cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, &status);
    must(status, "clCreateContext");
    cl_command_queue queue = clCreateCommandQueue(context, device, 0, &status);
    must(status, "clCreateCommandQueue");
    const char *source = text;
    cl_program program = clCreateProgramWithSource(context, 1, &source, NULL, &status);
    must(status, "clCreateProgramWithSource");
    must(clBuildProgram(program, 1, &device, "", NULL, NULL), "clBuildProgram");
    cl_kernel kernel = clCreateKernel(program, "work", &status);
    must(status, "clCreateKernel");
    for (uint32_t i = 0; i < COUNT; i++) {
        in[i] = i * UINT32_C(2654435761);
    }
    cl_mem buffers[3];
    buffers[0] =
        clCreateBuffer(context, CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR, sizeof(in), in, &status);
    must(status, "clCreateBuffer");
    buffers[1] = clCreateBuffer(context, CL_MEM_WRITE_ONLY, sizeof(out), NULL, &status);
    must(status, "clCreateBuffer");
    buffers[2] = clCreateBuffer(context, CL_MEM_WRITE_ONLY, sizeof(sums), NULL, &status);
    must(status, "clCreateBuffer");
    for (cl_uint i = 0; i < 3; i++) {
        must(clSetKernelArg(kernel, i, sizeof(buffers[i]), &buffers[i]), "clSetKernelArg");
    }
    must(clSetKernelArg(kernel, 3, sizeof(seed), &seed), "clSetKernelArg");
    const size_t global = COUNT, group = GROUP;
    must(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &global, &group, 0, NULL, NULL),
         "clEnqueueNDRangeKernel");
    must(clEnqueueReadBuffer(queue, buffers[1], CL_TRUE, 0, sizeof(out), out, 0, NULL, NULL),
         "clEnqueueReadBuffer");
    must(clEnqueueReadBuffer(queue, buffers[2], CL_TRUE, 0, sizeof(sums), sums, 0, NULL, NULL),
         "clEnqueueReadBuffer");

    int wrong = 0;
    for (uint32_t g = 0; g < COUNT / GROUP; g++) {
        uint32_t total = 0;
        for (uint32_t i = g * GROUP; i < (g + 1) * GROUP; i++) {
            total += expected(in[i], seed);
            wrong += out[i] != expected(in[i], seed);
        }
        wrong += sums[g] != total;
    }
    printf("opencl: %d values and %d sums compared, %d wrong\n", COUNT, COUNT / GROUP, wrong);
    for (int i = 0; i < 3; i++) {
        clReleaseMemObject(buffers[i]);
    }
    clReleaseKernel(kernel);
    clReleaseProgram(program);
    clReleaseCommandQueue(queue);
    clReleaseContext(context);
    return wrong == 0 ? 0 : 1;
}
