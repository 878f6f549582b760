/* SPDX-License-Identifier: MIT */
/* Rectangles, drawn off screen. */
#include "vk-bench.h"

#include <string.h>

#include "vk-shaders.h"

#define PICTURE_PX 256u

static struct {
    VkImage image;
    VkDeviceMemory memory;
    VkImageView view;
    VkRenderPass pass;
    VkFramebuffer framebuffer;
    VkPipelineLayout layout;
    VkPipeline pipeline;
    VkShaderModule vertex, fragment;
} scene;

static void scene_target(void)
{
    VkImageCreateInfo image = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO,
        .imageType = VK_IMAGE_TYPE_2D,
        .format = VK_FORMAT_R8G8B8A8_UNORM,
        .extent = {PICTURE_PX, PICTURE_PX, 1},
        .mipLevels = 1,
        .arrayLayers = 1,
        .samples = VK_SAMPLE_COUNT_1_BIT,
        .tiling = VK_IMAGE_TILING_OPTIMAL,
        .usage = VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VK_IMAGE_USAGE_TRANSFER_SRC_BIT,
    };
    must(vkCreateImage(vk.device, &image, NULL, &scene.image), "image");
    VkMemoryRequirements needs;
    vkGetImageMemoryRequirements(vk.device, scene.image, &needs);
    VkMemoryAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = needs.size,
        .memoryTypeIndex = find_type(needs.memoryTypeBits, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT),
    };
    if (allocate.memoryTypeIndex == VK_MAX_MEMORY_TYPES) {
        no_device("no device-local memory for images");
    }
    must(vkAllocateMemory(vk.device, &allocate, NULL, &scene.memory), "image memory");
    must(vkBindImageMemory(vk.device, scene.image, scene.memory, 0), "bind image");
    VkImageViewCreateInfo view = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_VIEW_CREATE_INFO,
        .image = scene.image,
        .viewType = VK_IMAGE_VIEW_TYPE_2D,
        .format = image.format,
        .subresourceRange = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1},
    };
    must(vkCreateImageView(vk.device, &view, NULL, &scene.view), "image view");
    VkAttachmentDescription attachment = {
        .format = image.format,
        .samples = VK_SAMPLE_COUNT_1_BIT,
        .loadOp = VK_ATTACHMENT_LOAD_OP_CLEAR,
        .storeOp = VK_ATTACHMENT_STORE_OP_STORE,
        .stencilLoadOp = VK_ATTACHMENT_LOAD_OP_DONT_CARE,
        .stencilStoreOp = VK_ATTACHMENT_STORE_OP_DONT_CARE,
        .initialLayout = VK_IMAGE_LAYOUT_UNDEFINED,
        .finalLayout = VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL,
    };
    VkAttachmentReference reference = {0, VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL};
    VkSubpassDescription subpass = {
        .pipelineBindPoint = VK_PIPELINE_BIND_POINT_GRAPHICS,
        .colorAttachmentCount = 1,
        .pColorAttachments = &reference,
    };
    VkRenderPassCreateInfo pass = {
        .sType = VK_STRUCTURE_TYPE_RENDER_PASS_CREATE_INFO,
        .attachmentCount = 1,
        .pAttachments = &attachment,
        .subpassCount = 1,
        .pSubpasses = &subpass,
    };
    must(vkCreateRenderPass(vk.device, &pass, NULL, &scene.pass), "render pass");
    VkFramebufferCreateInfo framebuffer = {
        .sType = VK_STRUCTURE_TYPE_FRAMEBUFFER_CREATE_INFO,
        .renderPass = scene.pass,
        .attachmentCount = 1,
        .pAttachments = &scene.view,
        .width = PICTURE_PX,
        .height = PICTURE_PX,
        .layers = 1,
    };
    must(vkCreateFramebuffer(vk.device, &framebuffer, NULL, &scene.framebuffer), "framebuffer");
}

static void scene_pipeline(void)
{
    VkPushConstantRange push = {VK_SHADER_STAGE_VERTEX_BIT, 0, sizeof(struct push)};
    VkPipelineLayoutCreateInfo layout = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &push,
    };
    must(vkCreatePipelineLayout(vk.device, &layout, NULL, &scene.layout), "pipeline layout");
    scene.vertex = shader_create(vk_rect_vert, sizeof(vk_rect_vert));
    scene.fragment = shader_create(vk_rect_frag, sizeof(vk_rect_frag));
    VkPipelineShaderStageCreateInfo stages[2] = {
        {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
         .stage = VK_SHADER_STAGE_VERTEX_BIT,
         .module = scene.vertex,
         .pName = "main"},
        {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
         .stage = VK_SHADER_STAGE_FRAGMENT_BIT,
         .module = scene.fragment,
         .pName = "main"},
    };
    VkPipelineVertexInputStateCreateInfo input = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_VERTEX_INPUT_STATE_CREATE_INFO};
    VkPipelineInputAssemblyStateCreateInfo assembly = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_INPUT_ASSEMBLY_STATE_CREATE_INFO,
        .topology = VK_PRIMITIVE_TOPOLOGY_TRIANGLE_LIST,
    };
    VkViewport whole = {.width = PICTURE_PX, .height = PICTURE_PX, .maxDepth = 1.0f};
    VkRect2D scissor = {.extent = {PICTURE_PX, PICTURE_PX}};
    VkPipelineViewportStateCreateInfo viewport = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_VIEWPORT_STATE_CREATE_INFO,
        .viewportCount = 1,
        .pViewports = &whole,
        .scissorCount = 1,
        .pScissors = &scissor,
    };
    VkPipelineRasterizationStateCreateInfo raster = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_RASTERIZATION_STATE_CREATE_INFO,
        .cullMode = VK_CULL_MODE_NONE,
        .lineWidth = 1.0f,
    };
    VkPipelineMultisampleStateCreateInfo samples = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_MULTISAMPLE_STATE_CREATE_INFO,
        .rasterizationSamples = VK_SAMPLE_COUNT_1_BIT,
    };
    VkPipelineColorBlendAttachmentState opaque = {.colorWriteMask = 0xf};
    VkPipelineColorBlendStateCreateInfo blend = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_COLOR_BLEND_STATE_CREATE_INFO,
        .attachmentCount = 1,
        .pAttachments = &opaque,
    };
    VkGraphicsPipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_GRAPHICS_PIPELINE_CREATE_INFO,
        .stageCount = 2,
        .pStages = stages,
        .pVertexInputState = &input,
        .pInputAssemblyState = &assembly,
        .pViewportState = &viewport,
        .pRasterizationState = &raster,
        .pMultisampleState = &samples,
        .pColorBlendState = &blend,
        .layout = scene.layout,
        .renderPass = scene.pass,
    };
    must(vkCreateGraphicsPipelines(vk.device, VK_NULL_HANDLE, 1, &info, NULL, &scene.pipeline),
         "graphics pipeline");
}

void scene_create(void)
{
    scene_target();
    scene_pipeline();
}

void scene_destroy(void)
{
    vkDestroyPipeline(vk.device, scene.pipeline, NULL);
    vkDestroyShaderModule(vk.device, scene.vertex, NULL);
    vkDestroyShaderModule(vk.device, scene.fragment, NULL);
    vkDestroyPipelineLayout(vk.device, scene.layout, NULL);
    vkDestroyFramebuffer(vk.device, scene.framebuffer, NULL);
    vkDestroyRenderPass(vk.device, scene.pass, NULL);
    vkDestroyImageView(vk.device, scene.view, NULL);
    vkDestroyImage(vk.device, scene.image, NULL);
    vkFreeMemory(vk.device, scene.memory, NULL);
}

void draw_begin(void)
{
    begin();
    VkClearValue black = {.color = {.float32 = {0.0f, 0.0f, 0.0f, 1.0f}}};
    VkRenderPassBeginInfo pass = {
        .sType = VK_STRUCTURE_TYPE_RENDER_PASS_BEGIN_INFO,
        .renderPass = scene.pass,
        .framebuffer = scene.framebuffer,
        .renderArea = {.extent = {PICTURE_PX, PICTURE_PX}},
        .clearValueCount = 1,
        .pClearValues = &black,
    };
    vkCmdBeginRenderPass(vk.commands, &pass, VK_SUBPASS_CONTENTS_INLINE);
    vkCmdBindPipeline(vk.commands, VK_PIPELINE_BIND_POINT_GRAPHICS, scene.pipeline);
}

void draw_rect(const struct push *push)
{
    vkCmdPushConstants(vk.commands, scene.layout, VK_SHADER_STAGE_VERTEX_BIT, 0, sizeof(*push),
                       push);
    vkCmdDraw(vk.commands, 6, 1, 0, 0);
}

void draw_end(void)
{
    vkCmdEndRenderPass(vk.commands);
}

/* 16 x 16 squares, each in a colour of its own; every pixel is known. */
void check_picture(void)
{
    struct buffer pixels;
    buffer_host(&pixels, PICTURE_PX * PICTURE_PX * 4);
    memset(pixels.words, 0x5a, PICTURE_PX * PICTURE_PX * 4);
    draw_begin();
    for (uint32_t square = 0; square < 256; square++) {
        float x = (float)(square % 16) / 8.0f - 1.0f;
        float y = (float)(square / 16) / 8.0f - 1.0f;
        struct push push = {
            {x, y, x + 0.125f, y + 0.125f},
            {(float)square / 255.0f, (float)(255 - square) / 255.0f, (float)(square % 16) / 255.0f,
             1.0f},
        };
        draw_rect(&push);
    }
    draw_end();
    VkBufferImageCopy all = {
        .imageSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1},
        .imageExtent = {PICTURE_PX, PICTURE_PX, 1},
    };
    barrier_all();
    vkCmdCopyImageToBuffer(vk.commands, scene.image, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL,
                           pixels.buffer, 1, &all);
    end_submit_wait();
    uint64_t n_wrong = 0;
    for (uint32_t i = 0; i < PICTURE_PX * PICTURE_PX; i++) {
        uint32_t square = (i / PICTURE_PX / 16) * 16 + (i % PICTURE_PX) / 16;
        uint32_t expect = square | (255 - square) << 8 | (square % 16) << 16 | 0xff000000u;
        n_wrong += pixels.words[i] != expect;
    }
    verdict("picture", n_wrong, PICTURE_PX * PICTURE_PX);
    buffer_destroy(&pixels);
}
