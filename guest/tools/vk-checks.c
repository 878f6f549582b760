/* SPDX-License-Identifier: MIT */
/* Mapped memory and a compute kernel, checked word by word. */
#include "vk-bench.h"

#include <stdio.h>

#include "vk-shaders.h"

#define CHECK_BYTES (16u << 20) /* a buffer that a check goes through */
#define HASH_WORDS (1u << 20)
#define HASH_ROUNDS 32u

static uint32_t hash_word(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return x;
}

/* Mapped memory is one memory: what the processor writes the device reads, and the other way round,
 * also when the processor has the old contents in its caches. */
void check_mapped_type(uint32_t type)
{
    const uint32_t n_words = CHECK_BYTES / 4;
    struct buffer host;
    struct buffer local;
    char name[64];
    (void)snprintf(name, sizeof(name), "mapped-memory-type-%u", (unsigned)type);
    if (!buffer_create(&host, CHECK_BYTES, type)) {
        return;
    }
    buffer_device(&local, CHECK_BYTES);
    uint64_t n_wrong = 0;
    const uint32_t n_rounds = 4;
    for (uint32_t round = 0; round < n_rounds; round++) {
        for (uint32_t i = 0; i < n_words; i++) {
            host.words[i] = hash_word(i + round);
        }
        copy_once(&host, &local, CHECK_BYTES);
        begin();
        vkCmdFillBuffer(vk.commands, host.buffer, 0, CHECK_BYTES, 0xc0ffee00u + round);
        end_submit_wait();
        for (uint32_t i = 0; i < n_words; i++) {
            n_wrong += host.words[i] != 0xc0ffee00u + round;
        }
        copy_once(&local, &host, CHECK_BYTES);
        for (uint32_t i = 0; i < n_words; i++) {
            n_wrong += host.words[i] != hash_word(i + round);
        }
    }
    verdict(name, n_wrong, 2ull * n_rounds * n_words);
    buffer_destroy(&host);
    buffer_destroy(&local);
}

void check_compute(void)
{
    struct buffer words;
    buffer_host(&words, HASH_WORDS * 4);
    for (uint32_t i = 0; i < HASH_WORDS; i++) {
        words.words[i] = i;
    }
    VkDescriptorSetLayoutBinding binding = {
        .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        .descriptorCount = 1,
        .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
    };
    VkDescriptorSetLayoutCreateInfo set_info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = 1,
        .pBindings = &binding,
    };
    VkDescriptorSetLayout set_layout;
    must(vkCreateDescriptorSetLayout(vk.device, &set_info, NULL, &set_layout), "set layout");
    VkPushConstantRange push = {VK_SHADER_STAGE_COMPUTE_BIT, 0, 8};
    VkPipelineLayoutCreateInfo layout_info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &set_layout,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &push,
    };
    VkPipelineLayout layout;
    must(vkCreatePipelineLayout(vk.device, &layout_info, NULL, &layout), "pipeline layout");
    VkShaderModule shader = shader_create(vk_hash_comp, sizeof(vk_hash_comp));
    VkComputePipelineCreateInfo pipeline_info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = shader,
                  .pName = "main"},
        .layout = layout,
    };
    VkPipeline pipeline;
    must(vkCreateComputePipelines(vk.device, VK_NULL_HANDLE, 1, &pipeline_info, NULL, &pipeline),
         "compute pipeline");
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1};
    VkDescriptorPoolCreateInfo pool_info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
        .maxSets = 1,
        .poolSizeCount = 1,
        .pPoolSizes = &size,
    };
    VkDescriptorPool pool;
    must(vkCreateDescriptorPool(vk.device, &pool_info, NULL, &pool), "descriptor pool");
    VkDescriptorSetAllocateInfo set_allocate = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
        .descriptorPool = pool,
        .descriptorSetCount = 1,
        .pSetLayouts = &set_layout,
    };
    VkDescriptorSet set;
    must(vkAllocateDescriptorSets(vk.device, &set_allocate, &set), "descriptor set");
    VkDescriptorBufferInfo whole = {words.buffer, 0, VK_WHOLE_SIZE};
    VkWriteDescriptorSet write = {
        .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
        .dstSet = set,
        .descriptorCount = 1,
        .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        .pBufferInfo = &whole,
    };
    vkUpdateDescriptorSets(vk.device, 1, &write, 0, NULL);

    begin();
    vkCmdBindPipeline(vk.commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    vkCmdBindDescriptorSets(vk.commands, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1, &set, 0,
                            NULL);
    const uint32_t pushed[2] = {HASH_WORDS, HASH_ROUNDS};
    vkCmdPushConstants(vk.commands, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof(pushed), pushed);
    vkCmdDispatch(vk.commands, HASH_WORDS / 64, 1, 1);
    end_submit_wait();

    uint64_t n_wrong = 0;
    for (uint32_t i = 0; i < HASH_WORDS; i++) {
        uint32_t x = i;
        for (uint32_t r = 0; r < HASH_ROUNDS; r++) {
            x = hash_word(x + r);
        }
        n_wrong += words.words[i] != x;
    }
    verdict("compute", n_wrong, HASH_WORDS);
    vkDestroyDescriptorPool(vk.device, pool, NULL);
    vkDestroyPipeline(vk.device, pipeline, NULL);
    vkDestroyShaderModule(vk.device, shader, NULL);
    vkDestroyPipelineLayout(vk.device, layout, NULL);
    vkDestroyDescriptorSetLayout(vk.device, set_layout, NULL);
    buffer_destroy(&words);
}
