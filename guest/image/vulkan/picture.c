// Draws the picture of expected.h with Vulkan in the guest, off screen, and checks what came out.
//
//   vk-picture [--loop SECONDS] [--out FILE.ppm] [--any]
//
// A render pass into an image of the device, with depth; vertices and the texture's pixels are
// written through mapped memory, and the picture is read through it. --loop draws and checks frame
// after frame and prints "frames: N"; --any takes the first Vulkan device, not only venus.
//
// Exit status: 0 every pixel right, 1 some wrong, 2 could not draw.
#include "vk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../expected.h"
#include "picture.frag.h"
#include "picture.vert.h"

#define COLOUR_FORMAT VK_FORMAT_R8G8B8A8_UNORM
#define DEPTH_FORMAT VK_FORMAT_D16_UNORM // every implementation has it
#define MAX_VERTICES 64

enum pass { PLAIN, BLENDED, DEEP, N_PASSES };

struct push {
    float colour[4];
    int32_t mode;
};

struct image {
    VkImage image;
    VkDeviceMemory memory;
    VkImageView view;
};

struct picture {
    struct vk vk;
    struct image colour, depth, texture;
    VkSampler sampler;
    VkRenderPass pass;
    VkFramebuffer framebuffer;
    VkDescriptorSetLayout set_layout;
    VkDescriptorPool pool;
    VkDescriptorSet set;
    VkPipelineLayout layout;
    VkPipeline pipelines[N_PASSES];
    struct vk_buffer vertices, texels, pixels;
    uint32_t n_vertices;
};

static void make_image(const struct picture *p, VkFormat format, uint32_t w_px, uint32_t h_px,
                       VkImageUsageFlags usage, VkImageAspectFlags aspect, struct image *out)
{
    const struct vk *vk = &p->vk;
    VkImageCreateInfo info = {.sType = VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO,
                              .imageType = VK_IMAGE_TYPE_2D,
                              .format = format,
                              .extent = {w_px, h_px, 1},
                              .mipLevels = 1,
                              .arrayLayers = 1,
                              .samples = VK_SAMPLE_COUNT_1_BIT,
                              .tiling = VK_IMAGE_TILING_OPTIMAL,
                              .usage = usage};
    vk_must(vk, vkCreateImage(vk->device, &info, NULL, &out->image), "vkCreateImage");
    VkMemoryRequirements needs;
    vkGetImageMemoryRequirements(vk->device, out->image, &needs);
    VkMemoryAllocateInfo memory = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = needs.size,
        .memoryTypeIndex =
            vk_memory_type(vk, needs.memoryTypeBits, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT)};
    vk_must(vk, vkAllocateMemory(vk->device, &memory, NULL, &out->memory), "vkAllocateMemory");
    vk_must(vk, vkBindImageMemory(vk->device, out->image, out->memory, 0), "vkBindImageMemory");
    VkImageViewCreateInfo view = {.sType = VK_STRUCTURE_TYPE_IMAGE_VIEW_CREATE_INFO,
                                  .image = out->image,
                                  .viewType = VK_IMAGE_VIEW_TYPE_2D,
                                  .format = format,
                                  .subresourceRange = {aspect, 0, 1, 0, 1}};
    vk_must(vk, vkCreateImageView(vk->device, &view, NULL, &out->view), "vkCreateImageView");
}

static void make_target(struct picture *p)
{
    const struct vk *vk = &p->vk;
    make_image(p, COLOUR_FORMAT, WIDTH_PX, HEIGHT_PX,
               VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VK_IMAGE_USAGE_TRANSFER_SRC_BIT,
               VK_IMAGE_ASPECT_COLOR_BIT, &p->colour);
    make_image(p, DEPTH_FORMAT, WIDTH_PX, HEIGHT_PX, VK_IMAGE_USAGE_DEPTH_STENCIL_ATTACHMENT_BIT,
               VK_IMAGE_ASPECT_DEPTH_BIT, &p->depth);
    VkAttachmentDescription attachments[2] = {
        {.format = COLOUR_FORMAT,
         .samples = VK_SAMPLE_COUNT_1_BIT,
         .loadOp = VK_ATTACHMENT_LOAD_OP_CLEAR,
         .storeOp = VK_ATTACHMENT_STORE_OP_STORE,
         .stencilLoadOp = VK_ATTACHMENT_LOAD_OP_DONT_CARE,
         .stencilStoreOp = VK_ATTACHMENT_STORE_OP_DONT_CARE,
         .finalLayout = VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL},
        {.format = DEPTH_FORMAT,
         .samples = VK_SAMPLE_COUNT_1_BIT,
         .loadOp = VK_ATTACHMENT_LOAD_OP_CLEAR,
         .storeOp = VK_ATTACHMENT_STORE_OP_DONT_CARE,
         .stencilLoadOp = VK_ATTACHMENT_LOAD_OP_DONT_CARE,
         .stencilStoreOp = VK_ATTACHMENT_STORE_OP_DONT_CARE,
         .finalLayout = VK_IMAGE_LAYOUT_DEPTH_STENCIL_ATTACHMENT_OPTIMAL}};
    VkAttachmentReference colour = {0, VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL};
    VkAttachmentReference depth = {1, VK_IMAGE_LAYOUT_DEPTH_STENCIL_ATTACHMENT_OPTIMAL};
    VkSubpassDescription subpass = {.pipelineBindPoint = VK_PIPELINE_BIND_POINT_GRAPHICS,
                                    .colorAttachmentCount = 1,
                                    .pColorAttachments = &colour,
                                    .pDepthStencilAttachment = &depth};
    // The copy out of the picture waits for the drawing.
    VkSubpassDependency after = {.srcSubpass = 0,
                                 .dstSubpass = VK_SUBPASS_EXTERNAL,
                                 .srcStageMask = VK_PIPELINE_STAGE_COLOR_ATTACHMENT_OUTPUT_BIT,
                                 .dstStageMask = VK_PIPELINE_STAGE_TRANSFER_BIT,
                                 .srcAccessMask = VK_ACCESS_COLOR_ATTACHMENT_WRITE_BIT,
                                 .dstAccessMask = VK_ACCESS_TRANSFER_READ_BIT};
    VkRenderPassCreateInfo pass = {.sType = VK_STRUCTURE_TYPE_RENDER_PASS_CREATE_INFO,
                                   .attachmentCount = 2,
                                   .pAttachments = attachments,
                                   .subpassCount = 1,
                                   .pSubpasses = &subpass,
                                   .dependencyCount = 1,
                                   .pDependencies = &after};
    vk_must(vk, vkCreateRenderPass(vk->device, &pass, NULL, &p->pass), "vkCreateRenderPass");
    VkImageView views[2] = {p->colour.view, p->depth.view};
    VkFramebufferCreateInfo framebuffer = {.sType = VK_STRUCTURE_TYPE_FRAMEBUFFER_CREATE_INFO,
                                           .renderPass = p->pass,
                                           .attachmentCount = 2,
                                           .pAttachments = views,
                                           .width = WIDTH_PX,
                                           .height = HEIGHT_PX,
                                           .layers = 1};
    vk_must(vk, vkCreateFramebuffer(vk->device, &framebuffer, NULL, &p->framebuffer),
            "vkCreateFramebuffer");
}

static void texture_layout(const struct picture *p, VkImageLayout from, VkImageLayout to)
{
    VkImageMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_IMAGE_MEMORY_BARRIER,
                                    .srcAccessMask = VK_ACCESS_MEMORY_WRITE_BIT,
                                    .dstAccessMask =
                                        VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT,
                                    .oldLayout = from,
                                    .newLayout = to,
                                    .srcQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
                                    .dstQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
                                    .image = p->texture.image,
                                    .subresourceRange = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1}};
    vkCmdPipelineBarrier(p->vk.commands, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT,
                         VK_PIPELINE_STAGE_ALL_COMMANDS_BIT, 0, 0, NULL, 0, NULL, 1, &barrier);
}

static void make_texture(struct picture *p)
{
    const struct vk *vk = &p->vk;
    make_image(p, COLOUR_FORMAT, N_TEXELS, N_TEXELS,
               VK_IMAGE_USAGE_SAMPLED_BIT | VK_IMAGE_USAGE_TRANSFER_DST_BIT,
               VK_IMAGE_ASPECT_COLOR_BIT, &p->texture);
    vk_buffer_create(vk, sizeof(uint8_t[N_TEXELS][N_TEXELS][4]), VK_BUFFER_USAGE_TRANSFER_SRC_BIT,
                     HOST_MEMORY, &p->texels);
    expected_texels(p->texels.map);
    VkSamplerCreateInfo sampler = {.sType =
                                       VK_STRUCTURE_TYPE_SAMPLER_CREATE_INFO}; // nearest, one level
    vk_must(vk, vkCreateSampler(vk->device, &sampler, NULL, &p->sampler), "vkCreateSampler");

    vk_begin(vk);
    texture_layout(p, VK_IMAGE_LAYOUT_UNDEFINED, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL);
    VkBufferImageCopy whole = {.imageSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1},
                               .imageExtent = {N_TEXELS, N_TEXELS, 1}};
    vkCmdCopyBufferToImage(vk->commands, p->texels.buffer, p->texture.image,
                           VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, 1, &whole);
    texture_layout(p, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL,
                   VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL);
    vk_finish(vk);

    VkDescriptorSetLayoutBinding binding = {.descriptorType =
                                                VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER,
                                            .descriptorCount = 1,
                                            .stageFlags = VK_SHADER_STAGE_FRAGMENT_BIT};
    VkDescriptorSetLayoutCreateInfo set_layout = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = 1,
        .pBindings = &binding};
    vk_must(vk, vkCreateDescriptorSetLayout(vk->device, &set_layout, NULL, &p->set_layout),
            "vkCreateDescriptorSetLayout");
    VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER,
                                 .descriptorCount = 1};
    VkDescriptorPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = 1,
                                       .poolSizeCount = 1,
                                       .pPoolSizes = &size};
    vk_must(vk, vkCreateDescriptorPool(vk->device, &pool, NULL, &p->pool),
            "vkCreateDescriptorPool");
    VkDescriptorSetAllocateInfo set = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                       .descriptorPool = p->pool,
                                       .descriptorSetCount = 1,
                                       .pSetLayouts = &p->set_layout};
    vk_must(vk, vkAllocateDescriptorSets(vk->device, &set, &p->set), "vkAllocateDescriptorSets");
    VkDescriptorImageInfo image = {p->sampler, p->texture.view,
                                   VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL};
    VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                  .dstSet = p->set,
                                  .descriptorCount = 1,
                                  .descriptorType = VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER,
                                  .pImageInfo = &image};
    vkUpdateDescriptorSets(vk->device, 1, &write, 0, NULL);
}

static VkPipeline make_pipeline(const struct picture *p, VkShaderModule vertex,
                                VkShaderModule fragment, enum pass pass)
{
    VkPipelineShaderStageCreateInfo stages[2] = {
        {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
         .stage = VK_SHADER_STAGE_VERTEX_BIT,
         .module = vertex,
         .pName = "main"},
        {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
         .stage = VK_SHADER_STAGE_FRAGMENT_BIT,
         .module = fragment,
         .pName = "main"}};
    VkVertexInputBindingDescription binding = {.stride = 3 * sizeof(float)};
    VkVertexInputAttributeDescription attribute = {.format = VK_FORMAT_R32G32B32_SFLOAT};
    VkPipelineVertexInputStateCreateInfo input = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_VERTEX_INPUT_STATE_CREATE_INFO,
        .vertexBindingDescriptionCount = 1,
        .pVertexBindingDescriptions = &binding,
        .vertexAttributeDescriptionCount = 1,
        .pVertexAttributeDescriptions = &attribute};
    VkPipelineInputAssemblyStateCreateInfo assembly = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_INPUT_ASSEMBLY_STATE_CREATE_INFO,
        .topology = VK_PRIMITIVE_TOPOLOGY_TRIANGLE_STRIP};
    VkViewport viewport = {0, 0, WIDTH_PX, HEIGHT_PX, 0, 1};
    VkRect2D scissor = {{0, 0}, {WIDTH_PX, HEIGHT_PX}};
    VkPipelineViewportStateCreateInfo view = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_VIEWPORT_STATE_CREATE_INFO,
        .viewportCount = 1,
        .pViewports = &viewport,
        .scissorCount = 1,
        .pScissors = &scissor};
    VkPipelineRasterizationStateCreateInfo raster = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_RASTERIZATION_STATE_CREATE_INFO, .lineWidth = 1};
    VkPipelineMultisampleStateCreateInfo samples = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_MULTISAMPLE_STATE_CREATE_INFO,
        .rasterizationSamples = VK_SAMPLE_COUNT_1_BIT};
    VkPipelineDepthStencilStateCreateInfo depth = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_DEPTH_STENCIL_STATE_CREATE_INFO,
        .depthTestEnable = pass == DEEP,
        .depthWriteEnable = pass == DEEP,
        .depthCompareOp = VK_COMPARE_OP_LESS};
    VkPipelineColorBlendAttachmentState blend = {.blendEnable = pass == BLENDED,
                                                 .srcColorBlendFactor = VK_BLEND_FACTOR_SRC_ALPHA,
                                                 .dstColorBlendFactor =
                                                     VK_BLEND_FACTOR_ONE_MINUS_SRC_ALPHA,
                                                 .srcAlphaBlendFactor = VK_BLEND_FACTOR_ONE,
                                                 .colorWriteMask = 0xf};
    VkPipelineColorBlendStateCreateInfo blending = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_COLOR_BLEND_STATE_CREATE_INFO,
        .attachmentCount = 1,
        .pAttachments = &blend};
    VkGraphicsPipelineCreateInfo info = {.sType = VK_STRUCTURE_TYPE_GRAPHICS_PIPELINE_CREATE_INFO,
                                         .stageCount = 2,
                                         .pStages = stages,
                                         .pVertexInputState = &input,
                                         .pInputAssemblyState = &assembly,
                                         .pViewportState = &view,
                                         .pRasterizationState = &raster,
                                         .pMultisampleState = &samples,
                                         .pDepthStencilState = &depth,
                                         .pColorBlendState = &blending,
                                         .layout = p->layout,
                                         .renderPass = p->pass};
    VkPipeline pipeline;
    vk_must(&p->vk,
            vkCreateGraphicsPipelines(p->vk.device, VK_NULL_HANDLE, 1, &info, NULL, &pipeline),
            "vkCreateGraphicsPipelines");
    return pipeline;
}

static void make_pipelines(struct picture *p)
{
    const struct vk *vk = &p->vk;
    VkPushConstantRange range = {.stageFlags =
                                     VK_SHADER_STAGE_VERTEX_BIT | VK_SHADER_STAGE_FRAGMENT_BIT,
                                 .size = sizeof(struct push)};
    VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                         .setLayoutCount = 1,
                                         .pSetLayouts = &p->set_layout,
                                         .pushConstantRangeCount = 1,
                                         .pPushConstantRanges = &range};
    vk_must(vk, vkCreatePipelineLayout(vk->device, &layout, NULL, &p->layout),
            "vkCreatePipelineLayout");
    VkShaderModule vertex = vk_shader(vk, picture_vert, sizeof(picture_vert));
    VkShaderModule fragment = vk_shader(vk, picture_frag, sizeof(picture_frag));
    for (enum pass pass = 0; pass < N_PASSES; pass++) {
        p->pipelines[pass] = make_pipeline(p, vertex, fragment, pass);
    }
    vkDestroyShaderModule(vk->device, vertex, NULL);
    vkDestroyShaderModule(vk->device, fragment, NULL);
    vk_buffer_create(vk, MAX_VERTICES * 3 * sizeof(float), VK_BUFFER_USAGE_VERTEX_BUFFER_BIT,
                     HOST_MEMORY, &p->vertices);
    vk_buffer_create(vk, (VkDeviceSize)WIDTH_PX * HEIGHT_PX * 4, VK_BUFFER_USAGE_TRANSFER_DST_BIT,
                     HOST_MEMORY, &p->pixels);
}

static void strip(struct picture *p, int mode, const float colour[4], const float *points,
                  uint32_t n_points)
{
    if (p->n_vertices + n_points > MAX_VERTICES) {
        vk_die(&p->vk, "more than %d vertices", MAX_VERTICES);
    }
    memcpy((float *)p->vertices.map + (size_t)p->n_vertices * 3, points,
           n_points * 3 * sizeof(float));
    struct push push = {.mode = mode};
    memcpy(push.colour, colour, sizeof(push.colour));
    vkCmdPushConstants(p->vk.commands, p->layout,
                       VK_SHADER_STAGE_VERTEX_BIT | VK_SHADER_STAGE_FRAGMENT_BIT, 0, sizeof(push),
                       &push);
    vkCmdDraw(p->vk.commands, n_points, 1, p->n_vertices, 0);
    p->n_vertices += n_points;
}

static void box(struct picture *p, int mode, const float colour[4], float x, float y, float w,
                float h, float z)
{
    const float points[] = {x, y, z, x + w, y, z, x, y + h, z, x + w, y + h, z};
    strip(p, mode, colour, points, 4);
}

static void record(struct picture *p)
{
    static const float quadrants[4][4] = {
        {200, 40, 40}, {40, 200, 40}, {40, 40, 200}, {220, 200, 40}};
    static const float white[] = {1, 1, 1, 1}, half[] = {1, 0, 1, 0.5f}, black[] = {0, 0, 0, 1},
                       cyan[] = {0, 1, 1, 1};
    VkCommandBuffer commands = p->vk.commands;
    for (uint32_t i = 0; i < 4; i++) {
        VkClearAttachment clear = {.aspectMask = VK_IMAGE_ASPECT_COLOR_BIT,
                                   .clearValue.color.float32 = {quadrants[i][0] / 255,
                                                                quadrants[i][1] / 255,
                                                                quadrants[i][2] / 255, 1}};
        VkClearRect quarter = {{{(int32_t)(i % 2 * WIDTH_PX / 2), (int32_t)(i / 2 * HEIGHT_PX / 2)},
                                {WIDTH_PX / 2, HEIGHT_PX / 2}},
                               0,
                               1};
        vkCmdClearAttachments(commands, 1, &clear, 1, &quarter);
    }
    vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, p->layout, 0, 1, &p->set, 0,
                            NULL);
    vkCmdBindVertexBuffers(commands, 0, 1, &p->vertices.buffer, &(VkDeviceSize){0});
    p->n_vertices = 0;
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, p->pipelines[PLAIN]);
    box(p, 1, white, 64, 64, 256, 128, 0);
    // The long edge runs half a pixel away from every pixel's middle.
    const float corner[] = {600, 80, 0, 800.5f, 80, 0, 600, 280.5f, 0};
    strip(p, 0, white, corner, 3);
    box(p, 2, white, 128, 480, 256, 256, 0);
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, p->pipelines[BLENDED]);
    box(p, 0, half, 600, 420, 160, 320, 0);
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, p->pipelines[DEEP]);
    box(p, 0, cyan, 860, 520, 80, 80, 0.25f);
    box(p, 0, black, 820, 480, 160, 160, 0.75f);
}

/// Draws one frame and copies it to p->pixels.
static void draw(struct picture *p)
{
    memset(p->pixels.map, 0x5a, p->pixels.n_bytes);
    vk_begin(&p->vk);
    VkClearValue clear[2] = {{.color.float32 = {0.1f, 0.1f, 0.1f, 1}}, {.depthStencil = {1, 0}}};
    VkRenderPassBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_RENDER_PASS_BEGIN_INFO,
                                   .renderPass = p->pass,
                                   .framebuffer = p->framebuffer,
                                   .renderArea = {{0, 0}, {WIDTH_PX, HEIGHT_PX}},
                                   .clearValueCount = 2,
                                   .pClearValues = clear};
    vkCmdBeginRenderPass(p->vk.commands, &begin, VK_SUBPASS_CONTENTS_INLINE);
    record(p);
    vkCmdEndRenderPass(p->vk.commands);
    VkBufferImageCopy whole = {.imageSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1},
                               .imageExtent = {WIDTH_PX, HEIGHT_PX, 1}};
    vkCmdCopyImageToBuffer(p->vk.commands, p->colour.image, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL,
                           p->pixels.buffer, 1, &whole);
    vk_finish(&p->vk);
}

static int check(const struct picture *p, const char *out_path, bool quiet)
{
    FILE *out = NULL;
    if (out_path != NULL) {
        out = fopen(out_path, "wbe");
        if (out == NULL) {
            vk_die(&p->vk, "%s: %s", out_path, strerror(errno));
        }
    }
    int wrong = check_picture(p->pixels.map, false, out, quiet);
    if (out != NULL) {
        fclose(out);
    }
    return wrong;
}

static void destroy_image(const struct vk *vk, const struct image *image)
{
    vkDestroyImageView(vk->device, image->view, NULL);
    vkDestroyImage(vk->device, image->image, NULL);
    vkFreeMemory(vk->device, image->memory, NULL);
}

static void finish(struct picture *p)
{
    struct vk *vk = &p->vk;
    for (int i = 0; i < N_PASSES; i++) {
        vkDestroyPipeline(vk->device, p->pipelines[i], NULL);
    }
    vkDestroyPipelineLayout(vk->device, p->layout, NULL);
    vkDestroyDescriptorPool(vk->device, p->pool, NULL);
    vkDestroyDescriptorSetLayout(vk->device, p->set_layout, NULL);
    vkDestroySampler(vk->device, p->sampler, NULL);
    vkDestroyFramebuffer(vk->device, p->framebuffer, NULL);
    vkDestroyRenderPass(vk->device, p->pass, NULL);
    destroy_image(vk, &p->colour);
    destroy_image(vk, &p->depth);
    destroy_image(vk, &p->texture);
    vk_buffer_destroy(vk, &p->vertices);
    vk_buffer_destroy(vk, &p->texels);
    vk_buffer_destroy(vk, &p->pixels);
    vk_close(vk);
}

int main(int argc, char **argv)
{
    const char *out_path = NULL;
    bool any = false;
    double loop_s = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--any") == 0) {
            any = true;
        } else if (strcmp(argv[i], "--loop") == 0 && i + 1 < argc) {
            loop_s = atof(argv[++i]);
        } else if (strcmp(argv[i], "--out") == 0 && i + 1 < argc) {
            out_path = argv[++i];
        } else {
            fputs("usage: vk-picture [--loop SECONDS] [--out FILE.ppm] [--any]\n", stderr);
            return EXIT_COULD_NOT;
        }
    }
    struct picture p = {0};
    vk_open(&p.vk, "vk-picture", any);
    make_target(&p);
    make_texture(&p);
    make_pipelines(&p);
    draw(&p);
    int wrong = check(&p, out_path, false);
    double end = vk_now_s() + loop_s, told = 0;
    for (int n = 1; vk_now_s() < end; n++) {
        if (vk_now_s() > told + 0.2) {
            printf("frames: %d\n", n);
            told = vk_now_s();
        }
        draw(&p);
        wrong += check(&p, NULL, true);
    }
    finish(&p);
    return wrong == 0 ? EXIT_RIGHT : EXIT_WRONG;
}
