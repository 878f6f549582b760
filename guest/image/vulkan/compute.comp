#version 450
// compute.c computes the same on the processor: integers, and floats that are exact.
layout(local_size_x = 64) in;
layout(set = 0, binding = 0) readonly buffer Input { uint words[]; } source;
layout(set = 0, binding = 1) writeonly buffer Output { uint words[]; } hashed;
layout(set = 0, binding = 2) writeonly buffer Floats { float values[]; } halves;
layout(set = 0, binding = 3) buffer Sums { uint total; uint groups; } sums;
layout(push_constant) uniform Push { uint seed; uint count; } push;
shared uint part[64];

void main()
{
    uint i = gl_GlobalInvocationID.x;
    uint word = source.words[i];
    uint x = (word ^ push.seed) * 747796405u + 2891336453u;
    x = ((x >> ((x >> 28) + 4u)) ^ x) * 277803737u;
    x = (x >> 22) ^ x;
    hashed.words[i] = x;
    halves.values[i] = float(word & 0xffffu) * 0.5 + float(i & 0xffu);

    uint lane = gl_LocalInvocationID.x;
    part[lane] = x;
    barrier();
    for (uint step = 32u; step > 0u; step >>= 1) {
        if (lane < step)
            part[lane] += part[lane + step];
        barrier();
    }
    if (lane == 0u) {
        atomicAdd(sums.total, part[0]);
        atomicAdd(sums.groups, 1u);
    }
}
