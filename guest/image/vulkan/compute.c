// Computes with Vulkan in the guest, and compares every value with what the processor computes.
//
//   vk-compute [--loop SECONDS] [--any]
//
// The input is written, and the results are read, through mapped memory, without a copy in between:
// the GPU sees what the program wrote there and the other way round. Every second round goes
// through memory of the device, with copies. --loop goes on round by round and prints "rounds: N";
// --any takes the first Vulkan device, not only venus.
//
// Exit status: 0 every value right, 1 some wrong, 2 no such device, or it was lost.
#include "vk.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compute.comp.h"

#define COUNT (256 * 1024)
#define GROUP 64 // as in compute.comp
#define N_BUFFERS 4
#define N_ROUNDS 4

enum { INPUT, HASHED, HALVES, SUMS };

struct push {
    uint32_t seed, count;
};

struct compute {
    struct vk vk;
    struct vk_buffer buffers[N_BUFFERS]; // mapped
    struct vk_buffer far[N_BUFFERS];     // the device's own
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    VkPipeline pipeline;
    VkDescriptorPool pool;
    VkDescriptorSet near_set, far_set;
};

static const VkDeviceSize sizes[N_BUFFERS] = {COUNT * 4, COUNT * 4, COUNT * 4, 8};

static VkDescriptorSet make_set(struct compute *c, const struct vk_buffer *buffers)
{
    VkDescriptorSetAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                        .descriptorPool = c->pool,
                                        .descriptorSetCount = 1,
                                        .pSetLayouts = &c->set_layout};
    VkDescriptorSet set;
    vk_must(&c->vk, vkAllocateDescriptorSets(c->vk.device, &info, &set),
            "vkAllocateDescriptorSets");
    for (uint32_t i = 0; i < N_BUFFERS; i++) {
        VkDescriptorBufferInfo buffer = {.buffer = buffers[i].buffer, .range = VK_WHOLE_SIZE};
        VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                      .dstSet = set,
                                      .dstBinding = i,
                                      .descriptorCount = 1,
                                      .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                      .pBufferInfo = &buffer};
        vkUpdateDescriptorSets(c->vk.device, 1, &write, 0, NULL);
    }
    return set;
}

static void prepare(struct compute *c)
{
    const VkBufferUsageFlags usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                     VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                     VK_BUFFER_USAGE_TRANSFER_DST_BIT;
    VkDescriptorSetLayoutBinding bindings[N_BUFFERS];
    for (uint32_t i = 0; i < N_BUFFERS; i++) {
        vk_buffer_create(&c->vk, sizes[i], usage, HOST_MEMORY, &c->buffers[i]);
        vk_buffer_create(&c->vk, sizes[i], usage, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, &c->far[i]);
        bindings[i] =
            (VkDescriptorSetLayoutBinding){.binding = i,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .descriptorCount = 1,
                                           .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    }
    VkDescriptorSetLayoutCreateInfo set_layout = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = N_BUFFERS,
        .pBindings = bindings};
    vk_must(&c->vk, vkCreateDescriptorSetLayout(c->vk.device, &set_layout, NULL, &c->set_layout),
            "vkCreateDescriptorSetLayout");
    VkPushConstantRange range = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
                                 .size = sizeof(struct push)};
    VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                         .setLayoutCount = 1,
                                         .pSetLayouts = &c->set_layout,
                                         .pushConstantRangeCount = 1,
                                         .pPushConstantRanges = &range};
    vk_must(&c->vk, vkCreatePipelineLayout(c->vk.device, &layout, NULL, &c->layout),
            "vkCreatePipelineLayout");
    VkShaderModule shader = vk_shader(&c->vk, compute_comp, sizeof(compute_comp));
    VkComputePipelineCreateInfo pipeline = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = shader,
                  .pName = "main"},
        .layout = c->layout};
    vk_must(
        &c->vk,
        vkCreateComputePipelines(c->vk.device, VK_NULL_HANDLE, 1, &pipeline, NULL, &c->pipeline),
        "vkCreateComputePipelines");
    vkDestroyShaderModule(c->vk.device, shader, NULL);
    VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                 .descriptorCount = 2 * N_BUFFERS};
    VkDescriptorPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = 2,
                                       .poolSizeCount = 1,
                                       .pPoolSizes = &size};
    vk_must(&c->vk, vkCreateDescriptorPool(c->vk.device, &pool, NULL, &c->pool),
            "vkCreateDescriptorPool");
    c->near_set = make_set(c, c->buffers);
    c->far_set = make_set(c, c->far);
}

static uint32_t input_word(uint32_t i, uint32_t seed)
{
    return i * UINT32_C(2654435761) + seed * UINT32_C(40503);
}

static uint32_t expected_hash(uint32_t word, uint32_t seed)
{
    uint32_t x = (word ^ seed) * UINT32_C(747796405) + UINT32_C(2891336453);
    x = ((x >> ((x >> 28) + 4)) ^ x) * UINT32_C(277803737);
    return (x >> 22) ^ x;
}

static void copy_all(const struct compute *c, const struct vk_buffer *from,
                     const struct vk_buffer *to)
{
    for (int i = 0; i < N_BUFFERS; i++) {
        vkCmdCopyBuffer(c->vk.commands, from[i].buffer, to[i].buffer, 1,
                        &(VkBufferCopy){.size = sizes[i]});
    }
    vk_barrier(&c->vk);
}

/// One dispatch over all values. Returns how many results are wrong.
static uint32_t compute_round(struct compute *c, uint32_t seed, bool by_device_memory)
{
    uint32_t *input = c->buffers[INPUT].map, *hashed = c->buffers[HASHED].map,
             *sums = c->buffers[SUMS].map;
    float *halves = c->buffers[HALVES].map;
    for (uint32_t i = 0; i < COUNT; i++) {
        input[i] = input_word(i, seed);
    }
    memset(hashed, 0x5a, COUNT * 4);
    memset(halves, 0x5a, COUNT * 4);
    memset(sums, 0, 8);

    const struct push push = {.seed = seed, .count = COUNT};
    VkDescriptorSet set = by_device_memory ? c->far_set : c->near_set;
    vk_begin(&c->vk);
    vk_barrier(&c->vk);
    if (by_device_memory) {
        copy_all(c, c->buffers, c->far);
    }
    vkCmdBindPipeline(c->vk.commands, VK_PIPELINE_BIND_POINT_COMPUTE, c->pipeline);
    vkCmdBindDescriptorSets(c->vk.commands, VK_PIPELINE_BIND_POINT_COMPUTE, c->layout, 0, 1, &set,
                            0, NULL);
    vkCmdPushConstants(c->vk.commands, c->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof(push),
                       &push);
    vkCmdDispatch(c->vk.commands, COUNT / GROUP, 1, 1);
    vk_barrier(&c->vk);
    if (by_device_memory) {
        copy_all(c, c->far, c->buffers);
    }
    vk_finish(&c->vk);

    uint32_t wrong = 0, total = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t word = input_word(i, seed), hash = expected_hash(word, seed);
        float half = (float)(word & 0xffff) * 0.5f + (float)(i & 0xff);
        total += hash;
        bool right = hashed[i] == hash && halves[i] == half && input[i] == word;
        if (!right && wrong++ == 0) {
            printf("wrong: value %" PRIu32 ": hash 0x%" PRIx32 ", not 0x%" PRIx32
                   "; half %g, not %g\n",
                   i, hashed[i], hash, (double)halves[i], (double)half);
        }
    }
    if (sums[0] != total || sums[1] != COUNT / GROUP) {
        printf("wrong: sum 0x%" PRIx32 ", not 0x%" PRIx32 "; %" PRIu32 " groups, not %d\n", sums[0],
               total, sums[1], COUNT / GROUP);
        wrong++;
    }
    return wrong;
}

int main(int argc, char **argv)
{
    bool any = false;
    double loop_s = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--any") == 0) {
            any = true;
        } else if (strcmp(argv[i], "--loop") == 0 && i + 1 < argc) {
            loop_s = atof(argv[++i]);
        } else {
            fputs("usage: vk-compute [--loop SECONDS] [--any]\n", stderr);
            return EXIT_COULD_NOT;
        }
    }
    struct compute c = {0};
    vk_open(&c.vk, "vk-compute", any);
    prepare(&c);
    double end = vk_now_s() + loop_s, told = 0;
    uint32_t wrong = 0, rounds = 0;
    while (rounds < N_ROUNDS || vk_now_s() < end) {
        wrong += compute_round(&c, rounds, rounds % 2 == 1);
        rounds++;
        if (loop_s > 0 && vk_now_s() > told + 0.2) {
            printf("rounds: %" PRIu32 "\n", rounds);
            told = vk_now_s();
        }
    }
    printf("compute: %" PRIu64 " values in %" PRIu32 " rounds, %" PRIu32 " wrong\n",
           (uint64_t)rounds * COUNT, rounds, wrong);
    for (int i = 0; i < N_BUFFERS; i++) {
        vk_buffer_destroy(&c.vk, &c.buffers[i]);
        vk_buffer_destroy(&c.vk, &c.far[i]);
    }
    vkDestroyPipeline(c.vk.device, c.pipeline, NULL);
    vkDestroyPipelineLayout(c.vk.device, c.layout, NULL);
    vkDestroyDescriptorPool(c.vk.device, c.pool, NULL);
    vkDestroyDescriptorSetLayout(c.vk.device, c.set_layout, NULL);
    vk_close(&c.vk);
    return wrong == 0 ? EXIT_RIGHT : EXIT_WRONG;
}
