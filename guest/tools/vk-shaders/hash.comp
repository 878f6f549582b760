#version 450
// Many rounds of an integer hash over each word: every bit of the result depends on every bit of the input, and the
// processor computes the same (hash_word in vk-bench.c).
layout(local_size_x = 64) in;
layout(std430, binding = 0) buffer Words { uint words[]; };
layout(push_constant) uniform Push { uint count; uint rounds; } push;

uint hash(uint x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return x;
}

void main()
{
    uint i = gl_GlobalInvocationID.x;
    if (i >= push.count) {
        return;
    }
    uint x = words[i];
    for (uint r = 0u; r < push.rounds; r++) {
        x = hash(x + r);
    }
    words[i] = x;
}
