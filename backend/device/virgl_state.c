/* SPDX-License-Identifier: MIT */
/* Following a stream: the walk, what each command has to keep to, and sub-contexts. */
#include <stdlib.h>
#include <string.h>

#include "gpu_counters.h"
#include "texture.h"
#include "texture_limits.h"
#include "virgl_state_priv.h"

/* --- room ------------------------------------------------------------------------------------- */

static void take(struct vgd_virgl_state *state, uint64_t n_bytes)
{
    state->bytes += n_bytes;
    *state->config.total_bytes += n_bytes;
}

enum vgd_status vgd_virgl_charge(struct vgd_virgl_state *state, uint64_t n_bytes)
{
    if (*state->config.total_bytes + n_bytes > VGD_VIRGL_STATE_BYTES_ALL_MAX) {
        return VGD_LIMIT;
    }
    take(state, n_bytes);
    return VGD_OK;
}

bool vgd_virgl_keep(struct vgd_virgl_state *state, uint64_t n_bytes)
{
    if (state->bytes + n_bytes > VGD_VIRGL_STATE_BYTES_MAX ||
        *state->config.total_bytes + n_bytes > VGD_VIRGL_KEPT_BYTES_MAX) {
        return false;
    }
    take(state, n_bytes);
    return true;
}

void vgd_virgl_give_back(struct vgd_virgl_state *state, uint64_t n_bytes)
{
    state->bytes -= n_bytes;
    *state->config.total_bytes -= n_bytes;
}

/* --- what is said of a wrong one -------------------------------------------------------------- */

static const char *name_among(const struct vgd_command_field *fields, uint32_t n, uint32_t dword)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct vgd_command_field *field = &fields[i];
        uint32_t each = field->type == VGD_FIELD_PART ? field->part->n_dwords
                        : field->type == VGD_FIELD_F64 || field->type == VGD_FIELD_U64 ? 2
                                                                                       : 1;
        uint32_t count = field->count != 0 ? field->count : 1;
        if (dword >= field->dword && dword - field->dword < each * count) {
            return field->name;
        }
    }
    return NULL;
}

const char *vgd_virgl_field_name(const struct vgd_command *cmd, uint32_t dword)
{
    const struct vgd_command_kind *k = cmd->kind;
    const char *name = NULL;
    if (dword == 0 || k == NULL) {
        return "length";
    }
    uint32_t at = dword - 1;
    if (k->group != NULL && at >= k->fixed_dwords) {
        name = name_among(k->group->fields, k->group->n_fields,
                          (at - k->fixed_dwords) % k->group->n_dwords);
    } else {
        name = name_among(k->fields, k->n_fields, at);
    }
    return name != NULL ? name : "id";
}

/* --- sub-contexts ----------------------------------------------------------------------------- */

static enum vgd_status sub_ctx_add(struct vgd_virgl_state *state, uint32_t id)
{
    if (state->sub_ctxs_count >= VGD_VIRGL_SUB_CONTEXTS_MAX) {
        return VGD_LIMIT;
    }
    enum vgd_status st = vgd_virgl_charge(state, sizeof(struct sub_ctx));
    if (st != VGD_OK) {
        return st;
    }
    struct sub_ctx *sub = calloc(1, sizeof(*sub));
    st = sub != NULL ? vgd_idmap_add(&state->sub_ctxs, id, sub) : VGD_NO_MEMORY;
    if (st != VGD_OK) {
        free(sub);
        vgd_virgl_give_back(state, sizeof(*sub));
        return st;
    }
    sub->id = id;
    *(state->last != NULL ? &state->last->next : &state->first) = sub;
    state->last = sub;
    state->current = sub;
    state->sub_ctxs_count++;
    return VGD_OK;
}

static void sub_ctx_free(struct vgd_virgl_state *state, struct sub_ctx *sub)
{
    vgd_virgl_bindings_finish(state, sub);
    while (sub->first != NULL) {
        vgd_virgl_object_destroy(state, sub, sub->first);
    }
    vgd_idmap_finish(&sub->objects);
    if (sub->names_resources) {
        struct sub_ctx **at = &state->first_naming;
        while (*at != sub) {
            at = &(*at)->next_naming;
        }
        *at = sub->next_naming;
    }
    (void)vgd_idmap_remove(&state->sub_ctxs, sub->id);
    vgd_virgl_give_back(state, sizeof(*sub));
    free(sub);
}

static void sub_ctx_destroy(struct vgd_virgl_state *state, uint32_t id)
{
    struct sub_ctx *sub = id != 0 ? vgd_idmap_find(&state->sub_ctxs, id) : NULL;
    if (sub == NULL) {
        return;
    }
    struct sub_ctx *before = state->first; /* the first one stays */
    while (before->next != sub) {
        before = before->next;
    }
    before->next = sub->next;
    if (state->last == sub) {
        state->last = before;
    }
    if (state->current == sub) {
        state->current = state->first;
    }
    state->sub_ctxs_count--;
    sub_ctx_free(state, sub);
}

static enum vgd_status follow_sub_ctx(struct follow *f)
{
    struct vgd_virgl_state *state = f->state;
    uint32_t id = f->cmd->body[0];
    struct sub_ctx *sub = vgd_idmap_find(&state->sub_ctxs, id);
    enum vgd_status st = VGD_OK;
    if (f->cmd->opcode == VGD_VIRGL_CMD_DESTROY_SUB_CTX) {
        sub_ctx_destroy(state, id);
    } else if (f->cmd->opcode == VGD_VIRGL_CMD_SET_SUB_CTX) {
        state->current = sub != NULL ? sub : state->current;
    } else if (sub == NULL) { /* one that is there is not even made current */
        st = sub_ctx_add(state, id);
    }
    return st == VGD_OK ? VGD_OK : vgd_virgl_wrong(f, st, 1);
}

/* --- what belongs to the whole context -------------------------------------------------------- */

/* The body of a PIPE_RESOURCE_CREATE as the command that makes the same by itself. */
static struct vgd_cmd_resource_create_3d blob_args(const uint32_t *body)
{
    return (struct vgd_cmd_resource_create_3d){
        .target = body[0],
        .format = body[1],
        .bind = body[2],
        .width = body[3],
        .height = body[4],
        .depth = body[5],
        .array_size = body[6],
        .last_level = body[7],
        .nr_samples = body[8],
        .flags = body[9],
    };
}

static void blobs_count(struct vgd_virgl_state *state, uint64_t n_bytes)
{
    if (state->config.resource_bytes != NULL) {
        vgd_count(state->config.resource_bytes, n_bytes);
        state->blobs_bytes += n_bytes;
    }
}

/* What PIPE_RESOURCE_CREATE made is the renderer's until a blob takes it. So it is always kept:
 * what it counts for is known by it. */
static enum vgd_status follow_blob(struct follow *f)
{
    struct vgd_virgl_state *state = f->state;
    const struct vgd_virgl_state_config *config = &state->config;
    const uint32_t w_dword = 4; /* what is said of a wrong one; the rest stands behind it */
    struct vgd_cmd_resource_create_3d args = blob_args(f->cmd->body);
    if (!vgd_texture_in_limits(&args) || !vgd_gl_texture_fits(&args)) {
        return vgd_virgl_wrong(f, VGD_RANGE, w_dword);
    }
    uint64_t n_bytes = vgd_texture_bytes(&args);
    if (config->resource_bytes != NULL &&
        n_bytes > config->resource_bytes_max - *config->resource_bytes) {
        return vgd_virgl_wrong(f, VGD_LIMIT, w_dword);
    }
    if (state->blobs.count >= VGD_VIRGL_BLOBS_MAX) {
        return vgd_virgl_wrong(f, VGD_LIMIT, PIPE_CREATE_BODY_DWORDS);
    }
    enum vgd_status st = vgd_virgl_kept_must_add(state, &state->blobs, f->cmd,
                                                 f->cmd->body[PIPE_CREATE_BODY_DWORDS - 1]);
    if (st != VGD_OK) {
        return vgd_virgl_wrong(f, st, 1);
    }
    blobs_count(state, n_bytes);
    return VGD_OK;
}

/* Its low 32 bits are what the renderer compares, too. */
static struct kept *blob_named(const struct vgd_virgl_state *state, uint64_t blob_id)
{
    return vgd_virgl_kept_find(&state->blobs, (uint32_t)blob_id);
}

static uint64_t blob_bytes(const struct vgd_virgl_state *state, const struct kept *kept)
{
    struct vgd_cmd_resource_create_3d args = blob_args(kept->dwords + 1);
    return state->config.resource_bytes != NULL ? vgd_texture_bytes(&args) : 0;
}

uint64_t vgd_virgl_state_blob_bytes(const struct vgd_virgl_state *state, uint64_t blob_id)
{
    const struct kept *kept = blob_named(state, blob_id);
    return kept != NULL ? blob_bytes(state, kept) : 0;
}

bool vgd_virgl_state_take_blob(struct vgd_virgl_state *state, uint64_t blob_id,
                               uint32_t out[VGD_VIRGL_PIPE_CREATE_DWORDS])
{
    struct kept *kept = blob_named(state, blob_id);
    if (kept == NULL) {
        return false;
    }
    bool newer = kept->n_dwords != VGD_VIRGL_PIPE_CREATE_DWORDS;
    if (!newer) {
        memcpy(out, kept->dwords, (size_t)kept->n_dwords * 4);
    }
    state->has_gaps |= newer; /* the resource cannot be made again */
    blobs_count(state, -blob_bytes(state, kept));
    vgd_virgl_kept_drop(state, &state->blobs, kept);
    return !newer;
}

/* The first one says what the resource is; the renderer does nothing about a second one. */
static enum vgd_status follow_type(struct follow *f)
{
    struct vgd_virgl_state *state = f->state;
    uint32_t res_id = f->cmd->body[0];
    enum vgd_status st = vgd_virgl_resource_check(f, 0);
    if (st != VGD_OK || vgd_idmap_find(&state->types_by_id, res_id) != NULL) {
        return st;
    }
    struct kept *kept = NULL;
    st = vgd_virgl_kept_add(state, &state->types, f->cmd, res_id, &kept);
    if (st == VGD_OK && kept != NULL) {
        st = vgd_idmap_add(&state->types_by_id, res_id, kept);
        if (st != VGD_OK) {
            vgd_virgl_kept_drop(state, &state->types, kept);
        }
    }
    state->has_gaps |= st == VGD_OK && kept == NULL;
    return st == VGD_OK ? VGD_OK : vgd_virgl_wrong(f, st, 1);
}

static enum vgd_status follow_video(struct follow *f)
{
    struct vgd_virgl_state *state = f->state;
    uint8_t opcode = f->cmd->opcode;
    bool codec =
        opcode == VGD_VIRGL_CMD_CREATE_VIDEO_CODEC || opcode == VGD_VIRGL_CMD_DESTROY_VIDEO_CODEC;
    struct kept_list *list = codec ? &state->codecs : &state->pictures;
    struct kept *there = vgd_virgl_kept_find(list, f->cmd->body[0]);
    if (opcode == VGD_VIRGL_CMD_DESTROY_VIDEO_CODEC ||
        opcode == VGD_VIRGL_CMD_DESTROY_VIDEO_BUFFER) {
        if (there != NULL) {
            vgd_virgl_kept_drop(state, list, there);
        }
        return VGD_OK;
    }
    if (there != NULL) {
        return VGD_OK; /* the renderer keeps the first one */
    }
    struct kept *kept = NULL;
    enum vgd_status st = VGD_OK;
    if (list->count < VGD_VIRGL_VIDEOS_MAX) {
        st = vgd_virgl_kept_add(state, list, f->cmd, f->cmd->body[0], &kept);
    }
    state->has_gaps |= st == VGD_OK && kept == NULL;
    return st == VGD_OK ? VGD_OK : vgd_virgl_wrong(f, st, 1);
}

/* --- commands --------------------------------------------------------------------------------- */

/* Is everything there that the command names? What is made or destroyed is not asked for. */
static enum vgd_status refs_check(const struct follow *f)
{
    struct vgd_command_refs refs = vgd_command_refs_of(f->cmd);
    struct vgd_command_ref ref;
    while (vgd_command_refs_next(&refs, &ref)) {
        if (ref.space == VGD_REF_RESOURCE) {
            enum vgd_status st = vgd_virgl_resource_check(f, ref.dword - 1);
            if (st != VGD_OK) {
                return st;
            }
        } else if (ref.space == VGD_REF_OBJECT &&
                   vgd_virgl_object_named(f, ref.dword - 1, vgd_virgl_object_type(ref.object)) ==
                       NULL) {
            return vgd_virgl_wrong(f, VGD_RANGE, ref.dword);
        }
    }
    return VGD_OK;
}

static enum vgd_status follow_destroy(struct follow *f)
{
    struct object *obj = vgd_idmap_find(&f->sub->objects, f->cmd->body[0]);
    if (obj == NULL) {
        return VGD_OK;
    }
    if (vgd_virgl_is_half_made(f->sub, obj)) {
        return vgd_virgl_wrong(f, VGD_RANGE, 1);
    }
    vgd_virgl_object_destroy(f->state, f->sub, obj);
    return VGD_OK;
}

static enum vgd_status follow_query(struct follow *f)
{
    struct object *query = vgd_virgl_object_named(f, 0, VGD_VIRGL_OBJECT_QUERY);
    if (query == NULL) {
        return vgd_virgl_wrong(f, VGD_RANGE, 1);
    }
    query->is_active = f->cmd->opcode == VGD_VIRGL_CMD_BEGIN_QUERY;
    return VGD_OK;
}

static enum vgd_status follow_tweak(struct follow *f)
{
    uint32_t tweak = f->cmd->body[0];
    if (tweak >= TWEAKS) {
        f->state->has_gaps = true;
        return VGD_OK;
    }
    f->sub->tweaks_set |= 1u << tweak;
    f->sub->tweaks[tweak] = f->cmd->body[1];
    return VGD_OK;
}

/*
 * One command that vgd_command_check lets pass. Ids that the renderer looks up and takes offence at
 * have to name something; some it passes over in silence, and so do we. A render condition is not
 * kept: the result that it goes by is in the renderer, and without it everything is drawn.
 */
static enum vgd_status follow_one(struct follow *f)
{
    switch (f->cmd->opcode) {
    case VGD_VIRGL_CMD_DRAW_VBO:
        return f->cmd->n_dwords <= 14 ? VGD_OK : refs_check(f); /* ids only in the longest form */
    case VGD_VIRGL_CMD_LINK_SHADER:
        return vgd_virgl_link_check(f);
    case VGD_VIRGL_CMD_NOP:
    case VGD_VIRGL_CMD_END_TRANSFERS:
    case VGD_VIRGL_CMD_SET_RENDER_CONDITION:
    case VGD_VIRGL_CMD_BEGIN_FRAME:
    case VGD_VIRGL_CMD_DECODE_MACROBLOCK:
    case VGD_VIRGL_CMD_DECODE_BITSTREAM:
    case VGD_VIRGL_CMD_ENCODE_BITSTREAM:
    case VGD_VIRGL_CMD_END_FRAME:
        return VGD_OK;
    case VGD_VIRGL_CMD_CREATE_OBJECT:
        return vgd_virgl_object_create(f);
    case VGD_VIRGL_CMD_DESTROY_OBJECT:
        return follow_destroy(f);
    case VGD_VIRGL_CMD_SET_SUB_CTX:
    case VGD_VIRGL_CMD_CREATE_SUB_CTX:
    case VGD_VIRGL_CMD_DESTROY_SUB_CTX:
        return follow_sub_ctx(f);
    case VGD_VIRGL_CMD_BEGIN_QUERY:
    case VGD_VIRGL_CMD_END_QUERY:
        return follow_query(f);
    case VGD_VIRGL_CMD_SET_TWEAKS:
        return follow_tweak(f);
    case VGD_VIRGL_CMD_PIPE_RESOURCE_CREATE:
        return follow_blob(f);
    case VGD_VIRGL_CMD_PIPE_RESOURCE_SET_TYPE:
        return follow_type(f);
    case VGD_VIRGL_CMD_CREATE_VIDEO_CODEC:
    case VGD_VIRGL_CMD_DESTROY_VIDEO_CODEC:
    case VGD_VIRGL_CMD_CREATE_VIDEO_BUFFER:
    case VGD_VIRGL_CMD_DESTROY_VIDEO_BUFFER:
        return follow_video(f);
    case VGD_VIRGL_CMD_CLEAR:
    case VGD_VIRGL_CMD_CLEAR_TEXTURE:
    case VGD_VIRGL_CMD_CLEAR_SURFACE:
    case VGD_VIRGL_CMD_RESOURCE_INLINE_WRITE:
    case VGD_VIRGL_CMD_BLIT:
    case VGD_VIRGL_CMD_RESOURCE_COPY_REGION:
    case VGD_VIRGL_CMD_GET_QUERY_RESULT:
    case VGD_VIRGL_CMD_GET_QUERY_RESULT_QBO:
    case VGD_VIRGL_CMD_MEMORY_BARRIER:
    case VGD_VIRGL_CMD_TEXTURE_BARRIER:
    case VGD_VIRGL_CMD_LAUNCH_GRID:
    case VGD_VIRGL_CMD_SET_DEBUG_FLAGS:
    case VGD_VIRGL_CMD_TRANSFER3D:
    case VGD_VIRGL_CMD_COPY_TRANSFER3D:
    case VGD_VIRGL_CMD_GET_MEMORY_INFO:
    case VGD_VIRGL_CMD_SEND_STRING_MARKER:
    case VGD_VIRGL_CMD_GET_PIPE_RESOURCE_LAYOUT:
        return refs_check(f);
    default:
        return vgd_virgl_bind(f);
    }
}

static bool is_bound(const struct object *obj, uint32_t handle)
{
    return obj != NULL && obj->handle == handle && obj->live;
}

/*
 * The commands that streams of small draws are made of, where they need no further look: the same
 * is bound again, constants fit where the last ones lie. A dozen draws cost what one costs
 * otherwise. False: not one of these.
 */
static inline bool follow_common(struct sub_ctx *sub, uint32_t header, const uint32_t *body)
{
    uint32_t n = header >> 16;
    switch (header & 0xffff) { /* with the object type, which has to be 0 where there is none */
    case VGD_VIRGL_CMD_DRAW_VBO:
        return (n == 12 || n == 14) && body[2] <= VGD_VIRGL_PRIM_PATCHES;
    case VGD_VIRGL_CMD_SET_CONSTANT_BUFFER: {
        if (n <= 2 || body[0] >= STAGES) {
            return false;
        }
        struct constants *c = &sub->constants[body[0]];
        if (n - 2 > c->capacity || c->is_lost || !c->is_set) {
            return false;
        }
        c->n = n - 2;
        memcpy(c->values, body + 2, (size_t)c->n * 4);
        return true;
    }
    case VGD_VIRGL_CMD_SET_VERTEX_BUFFERS:
        return n > 0 && n == sub->vertex_buffers_count * VERTEX_BUFFER_DWORDS &&
               memcmp(body, sub->vertex_buffers, (size_t)n * 4) == 0;
    case VGD_VIRGL_CMD_BIND_SHADER:
        return n == 2 && body[1] < STAGES && is_bound(sub->shaders[body[1]], body[0]);
    case VGD_VIRGL_CMD_BIND_OBJECT | VGD_VIRGL_OBJECT_VERTEX_ELEMENTS << 8:
        return n == 1 && is_bound(sub->vertex_elements, body[0]);
    case VGD_VIRGL_CMD_BIND_OBJECT | VGD_VIRGL_OBJECT_BLEND << 8:
        return n == 1 && is_bound(sub->blend, body[0]);
    case VGD_VIRGL_CMD_BIND_OBJECT | VGD_VIRGL_OBJECT_DSA << 8:
        return n == 1 && is_bound(sub->dsa, body[0]);
    case VGD_VIRGL_CMD_BIND_OBJECT | VGD_VIRGL_OBJECT_RASTERIZER << 8:
        return n == 1 && is_bound(sub->rasterizer, body[0]);
    default:
        return false;
    }
}

static bool is_draw(uint8_t opcode)
{
    return opcode == VGD_VIRGL_CMD_DRAW_VBO || opcode == VGD_VIRGL_CMD_CLEAR ||
           opcode == VGD_VIRGL_CMD_BLIT || opcode == VGD_VIRGL_CMD_LAUNCH_GRID ||
           opcode == VGD_VIRGL_CMD_CLEAR_TEXTURE || opcode == VGD_VIRGL_CMD_CLEAR_SURFACE;
}

/* A command whose body the stream does not hold, for what is said of it. */
static struct vgd_command cut_command(const struct vgd_stream *s)
{
    const struct vgd_stream_wire *wire = s->wire;
    uint32_t header = s->dwords[s->at];
    struct vgd_command cmd = {.wire = wire,
                              .body = s->dwords + s->at + 1,
                              .at = s->at,
                              .n_dwords = (uint16_t)(s->n_dwords - s->at - 1),
                              .opcode = (uint8_t)header,
                              .object = (uint8_t)(header >> 8)};
    if (cmd.opcode == wire->create_opcode) {
        cmd.kind = cmd.object < wire->n_objects ? wire->by_object[cmd.object] : NULL;
    } else if (cmd.opcode < wire->n_opcodes) {
        cmd.kind = wire->by_opcode[cmd.opcode];
    }
    return cmd;
}

enum vgd_status vgd_virgl_state_follow(struct vgd_virgl_state *state, const uint32_t *dwords,
                                       uint32_t n_dwords, uint32_t *out_good_dwords,
                                       struct vgd_virgl_tally *tally, struct vgd_command *out_wrong,
                                       struct vgd_command_fault *fault)
{
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
    struct vgd_command cmd;
    struct vgd_command_fault found = {.what = NULL};
    struct follow f = {.state = state, .cmd = &cmd, .fault = &found};
    enum vgd_status st = VGD_OK;
    *tally = (struct vgd_virgl_tally){0};
    for (;;) {
        while (s.at < n_dwords) {
            uint32_t header = dwords[s.at];
            if (header >> 16 > n_dwords - s.at - 1 ||
                !follow_common(state->current, header, dwords + s.at + 1)) {
                break;
            }
            s.at += 1 + (header >> 16);
            tally->commands++;
            tally->draws += (header & 0xff) == VGD_VIRGL_CMD_DRAW_VBO;
        }
        if (!vgd_stream_next(&s, &cmd)) {
            break;
        }
        enum vgd_status checked = vgd_command_check(&cmd, &found);
        bool passes = vgd_command_passes(checked, state->config.strict);
        st = passes ? VGD_OK : checked;
        if (passes && cmd.kind != NULL) {
            f.sub = state->current;
            st = follow_one(&f);
        }
        if (st != VGD_OK) {
            *out_good_dwords = cmd.at;
            *out_wrong = cmd;
            *fault = found;
            return st;
        }
        state->has_gaps |= cmd.kind == NULL;
        tally->unknown += checked != VGD_OK;
        tally->commands++;
        tally->draws += is_draw(cmd.opcode);
    }
    *out_good_dwords = s.at;
    if (s.status != VGD_OK) {
        *out_wrong = cut_command(&s);
        *fault = (struct vgd_command_fault){.what = "length", .value = dwords[s.at] >> 16};
    }
    return s.status;
}

/* --- the state -------------------------------------------------------------------------------- */

struct vgd_virgl_state *vgd_virgl_state_create(const struct vgd_virgl_state_config *config)
{
    struct vgd_virgl_state *state = calloc(1, sizeof(*state));
    if (state == NULL) {
        return NULL;
    }
    state->config = *config;
    take(state, sizeof(*state));
    if (sub_ctx_add(state, 0) != VGD_OK) {
        vgd_virgl_state_destroy(state);
        return NULL;
    }
    return state;
}

void vgd_virgl_state_destroy(struct vgd_virgl_state *state)
{
    if (state == NULL) {
        return;
    }
    while (state->first != NULL) {
        struct sub_ctx *sub = state->first;
        state->first = sub->next;
        sub_ctx_free(state, sub);
    }
    blobs_count(state, -state->blobs_bytes);
    vgd_virgl_kept_finish(state, &state->blobs);
    vgd_virgl_kept_finish(state, &state->types);
    vgd_virgl_kept_finish(state, &state->codecs);
    vgd_virgl_kept_finish(state, &state->pictures);
    vgd_idmap_finish(&state->sub_ctxs);
    vgd_idmap_finish(&state->made_of);
    vgd_idmap_finish(&state->types_by_id);
    vgd_virgl_give_back(state, sizeof(*state));
    free(state);
}

/* Pictures of video are made of resources. */
static void pictures_forget(struct vgd_virgl_state *state, uint32_t res_id)
{
    struct kept *next = NULL;
    for (struct kept *kept = state->pictures.first; kept != NULL; kept = next) {
        next = kept->next;
        struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, kept->dwords, kept->n_dwords);
        struct vgd_command cmd;
        bool names = false;
        if (vgd_stream_next(&s, &cmd)) {
            struct vgd_command_refs refs = vgd_command_refs_of(&cmd);
            struct vgd_command_ref ref;
            while (vgd_command_refs_next(&refs, &ref)) {
                names |= ref.space == VGD_REF_RESOURCE && ref.id == res_id;
            }
        }
        if (names) {
            vgd_virgl_kept_drop(state, &state->pictures, kept);
        }
    }
}

void vgd_virgl_state_forget_resource(struct vgd_virgl_state *state, uint32_t res_id)
{
    struct object *obj = vgd_idmap_remove(&state->made_of, res_id);
    while (obj != NULL) {
        struct object *next = obj->res_next;
        obj->is_gone = true;
        obj->res_id = 0;
        obj->res_prev = obj->res_next = NULL;
        obj = next;
    }
    for (struct sub_ctx **at = &state->first_naming; *at != NULL;) {
        struct sub_ctx *sub = *at;
        if (vgd_virgl_bindings_forget(sub, res_id)) {
            at = &sub->next_naming;
        } else {
            *at = sub->next_naming;
            sub->names_resources = false;
        }
    }
    struct kept *type = vgd_idmap_remove(&state->types_by_id, res_id);
    if (type != NULL) {
        vgd_virgl_kept_drop(state, &state->types, type);
    }
    pictures_forget(state, res_id);
}

void vgd_virgl_state_spoil(struct vgd_virgl_state *state)
{
    state->has_gaps = true;
}

bool vgd_virgl_state_is_whole(const struct vgd_virgl_state *state)
{
    return state->forgotten_count == 0 && !state->has_gaps;
}

uint64_t vgd_virgl_state_bytes(const struct vgd_virgl_state *state)
{
    return state->bytes;
}

uint32_t vgd_virgl_state_objects(const struct vgd_virgl_state *state)
{
    return state->objects_count;
}
