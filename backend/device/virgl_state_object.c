/* SPDX-License-Identifier: MIT */
/* Objects of a sub-context, and the commands that made them. */
#include <stdlib.h>
#include <string.h>

#include "virgl_shader.h"
#include "virgl_state_priv.h"

#define TABLE_BYTES 32u /* of an object in tables, about */

/* Where a CREATE_OBJECT names its resource: a dword of the body; 0: it names none. */
static uint32_t resource_dword(uint8_t type)
{
    switch (type) {
    case VGD_VIRGL_OBJECT_SURFACE:
    case VGD_VIRGL_OBJECT_MSAA_SURFACE:
    case VGD_VIRGL_OBJECT_SAMPLER_VIEW:
    case VGD_VIRGL_OBJECT_STREAMOUT_TARGET:
        return 1;
    case VGD_VIRGL_OBJECT_QUERY:
        return 3;
    default:
        return 0;
    }
}

static void append(struct kept_list *list, struct kept *kept)
{
    kept->prev = list->last;
    kept->next = NULL;
    if (list->last != NULL) {
        list->last->next = kept;
    } else {
        list->first = kept;
    }
    list->last = kept;
    list->count++;
}

static uint64_t kept_bytes(const struct kept *kept)
{
    return sizeof(*kept) + (uint64_t)kept->n_dwords * 4 + TABLE_BYTES;
}

/* Room for it is taken, and given back on failure. */
static struct kept *copy_kept(struct vgd_virgl_state *state, struct kept_list *list,
                              const struct vgd_command *cmd, const struct kept *like)
{
    struct kept *kept = malloc(sizeof(*kept) + (size_t)like->n_dwords * 4);
    if (kept == NULL) {
        vgd_virgl_give_back(state, kept_bytes(like));
        return NULL;
    }
    *kept = *like;
    memcpy(kept->dwords, cmd->body - 1, (size_t)like->n_dwords * 4);
    append(list, kept);
    return kept;
}

enum vgd_status vgd_virgl_kept_add(struct vgd_virgl_state *state, struct kept_list *list,
                                   const struct vgd_command *cmd, uint32_t id, struct kept **out)
{
    *out = NULL;
    struct kept like = {.id = id, .n_dwords = 1u + cmd->n_dwords};
    if (!vgd_virgl_keep(state, kept_bytes(&like))) {
        return VGD_OK;
    }
    *out = copy_kept(state, list, cmd, &like);
    return *out != NULL ? VGD_OK : VGD_NO_MEMORY;
}

enum vgd_status vgd_virgl_kept_must_add(struct vgd_virgl_state *state, struct kept_list *list,
                                        const struct vgd_command *cmd, uint32_t id)
{
    struct kept like = {.id = id, .n_dwords = 1u + cmd->n_dwords};
    enum vgd_status st = vgd_virgl_charge(state, kept_bytes(&like));
    if (st != VGD_OK) {
        return st;
    }
    return copy_kept(state, list, cmd, &like) != NULL ? VGD_OK : VGD_NO_MEMORY;
}

struct kept *vgd_virgl_kept_find(const struct kept_list *list, uint32_t id)
{
    struct kept *kept = list->first;
    while (kept != NULL && kept->id != id) {
        kept = kept->next;
    }
    return kept;
}

void vgd_virgl_kept_drop(struct vgd_virgl_state *state, struct kept_list *list, struct kept *kept)
{
    *(kept->prev != NULL ? &kept->prev->next : &list->first) = kept->next;
    *(kept->next != NULL ? &kept->next->prev : &list->last) = kept->prev;
    list->count--;
    vgd_virgl_give_back(state, kept_bytes(kept));
    free(kept);
}

void vgd_virgl_kept_finish(struct vgd_virgl_state *state, struct kept_list *list)
{
    while (list->first != NULL) {
        vgd_virgl_kept_drop(state, list, list->first);
    }
}

struct object *vgd_virgl_object_named(const struct follow *f, uint32_t i, uint8_t type)
{
    struct object *obj = vgd_idmap_find(&f->sub->objects, f->cmd->body[i]);
    return obj != NULL && obj->type == type ? obj : NULL;
}

/* --- what is made of a resource --------------------------------------------------------------- */

static enum vgd_status made_of_add(struct vgd_virgl_state *state, struct object *obj)
{
    struct object *head = vgd_idmap_find(&state->made_of, obj->res_id);
    if (head == NULL) {
        return vgd_idmap_add(&state->made_of, obj->res_id, obj);
    }
    obj->res_prev = head;
    obj->res_next = head->res_next;
    if (obj->res_next != NULL) {
        obj->res_next->res_prev = obj;
    }
    head->res_next = obj;
    return VGD_OK;
}

static void made_of_remove(struct vgd_virgl_state *state, struct object *obj)
{
    if (obj->res_id == 0) {
        return;
    }
    if (obj->res_next != NULL) {
        obj->res_next->res_prev = obj->res_prev;
    }
    if (obj->res_prev != NULL) {
        obj->res_prev->res_next = obj->res_next;
    } else {
        (void)vgd_idmap_remove(&state->made_of, obj->res_id);
        if (obj->res_next != NULL) { /* cannot fail: there is room for what was just removed */
            enum vgd_status st = vgd_idmap_add(&state->made_of, obj->res_id, obj->res_next);
            (void)st;
        }
    }
    obj->res_id = 0;
}

/* --- life ------------------------------------------------------------------------------------- */

static void object_free(struct vgd_virgl_state *state, struct object *obj)
{
    made_of_remove(state, obj);
    vgd_virgl_kept_finish(state, &obj->more);
    vgd_virgl_give_back(state, (uint64_t)obj->n_dwords * 4 + sizeof(*obj) + TABLE_BYTES);
    state->objects_count--;
    state->forgotten_count -= !obj->is_kept;
    free(obj);
}

void vgd_virgl_object_unref(struct vgd_virgl_state *state, struct object *obj)
{
    if (--obj->refs == 0) {
        object_free(state, obj);
    }
}

/* An object of the command, in no table yet. */
static enum vgd_status object_make(struct follow *f, struct object **out)
{
    struct vgd_virgl_state *state = f->state;
    const struct vgd_command *cmd = f->cmd;
    if (state->objects_count >= VGD_VIRGL_OBJECTS_MAX) {
        return vgd_virgl_wrong(f, VGD_LIMIT, 1);
    }
    enum vgd_status st = vgd_virgl_charge(state, sizeof(struct object) + TABLE_BYTES);
    if (st != VGD_OK) {
        return vgd_virgl_wrong(f, st, 1);
    }
    uint32_t n_dwords = 1u + cmd->n_dwords;
    bool is_kept = vgd_virgl_keep(state, (uint64_t)n_dwords * 4);
    if (!is_kept) {
        n_dwords = 0;
    }
    struct object *obj = malloc(sizeof(*obj) + (size_t)n_dwords * 4);
    if (obj == NULL) {
        vgd_virgl_give_back(state, sizeof(*obj) + TABLE_BYTES + (uint64_t)n_dwords * 4);
        return vgd_virgl_wrong(f, VGD_NO_MEMORY, 1);
    }
    *obj = (struct object){.refs = 1,
                           .handle = cmd->body[0],
                           .type = vgd_virgl_object_type(cmd->object),
                           .is_kept = is_kept,
                           .n_dwords = n_dwords};
    memcpy(obj->dwords, cmd->body - 1, (size_t)n_dwords * 4);
    state->objects_count++;
    state->forgotten_count += !is_kept;
    uint32_t at = resource_dword(cmd->object);
    if (at != 0) {
        obj->res_id = cmd->body[at];
        st = made_of_add(state, obj);
        if (st != VGD_OK) {
            obj->res_id = 0;
            object_free(state, obj);
            return vgd_virgl_wrong(f, st, at + 1);
        }
    }
    *out = obj;
    return VGD_OK;
}

void vgd_virgl_object_destroy(struct vgd_virgl_state *state, struct sub_ctx *sub,
                              struct object *obj)
{
    if (obj->refs > 1) {
        vgd_virgl_unbind(state, sub, obj);
    }
    (void)vgd_idmap_remove(&sub->objects, obj->handle);
    *(obj->prev != NULL ? &obj->prev->next : &sub->first) = obj->next;
    *(obj->next != NULL ? &obj->next->prev : &sub->last) = obj->prev;
    obj->live = false;
    vgd_virgl_object_unref(state, obj);
}

bool vgd_virgl_is_half_made(const struct sub_ctx *sub, const struct object *obj)
{
    return obj->type == VGD_VIRGL_OBJECT_SHADER && sub->half_made[obj->stage] == obj;
}

/* @obj takes its handle, from whoever has it. Fails without a trace. */
static enum vgd_status take_handle(struct follow *f, struct object *obj)
{
    struct sub_ctx *sub = f->sub;
    struct object *old = vgd_idmap_find(&sub->objects, obj->handle);
    if (old != NULL) {
        if (vgd_virgl_is_half_made(sub, old)) {
            return vgd_virgl_wrong(f, VGD_RANGE, 1);
        }
        vgd_virgl_object_destroy(f->state, sub, old); /* leaves room: the add does not fail then */
    }
    enum vgd_status st = vgd_idmap_add(&sub->objects, obj->handle, obj);
    if (st != VGD_OK) {
        return vgd_virgl_wrong(f, st, 1);
    }
    obj->live = true;
    obj->prev = sub->last;
    *(sub->last != NULL ? &sub->last->next : &sub->first) = obj;
    sub->last = obj;
    return VGD_OK;
}

/* A further piece of a shader's text. */
static enum vgd_status shader_continue(struct follow *f, const struct vgd_virgl_create_shader *cmd,
                                       const struct vgd_virgl_shader *parts)
{
    struct sub_ctx *sub = f->sub;
    struct object *obj = sub->half_made[cmd->stage];
    if (obj == NULL || obj->handle != cmd->handle) {
        return vgd_virgl_wrong(f, VGD_RANGE, 1);
    }
    if (cmd->offset_bytes != obj->text_dwords * 4 ||
        parts->n_text_dwords > obj->all_text_dwords - obj->text_dwords) {
        return vgd_virgl_wrong(f, VGD_RANGE, 3);
    }
    if (obj->is_kept) {
        struct kept *piece = NULL;
        enum vgd_status st = vgd_virgl_kept_add(f->state, &obj->more, f->cmd, 0, &piece);
        if (st != VGD_OK) {
            return vgd_virgl_wrong(f, st, 1);
        }
        obj->is_kept = piece != NULL;
        f->state->forgotten_count += piece == NULL;
    }
    obj->text_dwords += parts->n_text_dwords;
    if (obj->text_dwords == obj->all_text_dwords) {
        sub->half_made[cmd->stage] = NULL;
    }
    return VGD_OK;
}

static enum vgd_status shader_create(struct follow *f)
{
    struct vgd_virgl_create_shader cmd = {0};
    struct vgd_virgl_shader parts = {0};
    enum vgd_status st = vgd_virgl_create_shader_decode(f->cmd, &cmd);
    if (st == VGD_OK) {
        st = vgd_virgl_shader_of(&cmd, &parts);
    }
    if (st != VGD_OK) {
        return vgd_virgl_wrong(f, st, 0); /* not after a check */
    }
    if (cmd.stage >= STAGES) {
        f->state->has_gaps = true;
        return VGD_OK;
    }
    if (cmd.continued) {
        return shader_continue(f, &cmd, &parts);
    }
    if (f->sub->half_made[cmd.stage] != NULL) {
        return vgd_virgl_wrong(f, VGD_RANGE, 3); /* one at a time */
    }
    struct object *obj = NULL;
    st = object_make(f, &obj);
    if (st != VGD_OK) {
        return st;
    }
    obj->stage = (uint8_t)cmd.stage;
    obj->text_dwords = parts.n_text_dwords;
    obj->all_text_dwords = cmd.offset_bytes / 4 + (cmd.offset_bytes % 4 != 0);
    st = take_handle(f, obj);
    if (st != VGD_OK) {
        object_free(f->state, obj);
        return st;
    }
    if (parts.more_follows) {
        f->sub->half_made[cmd.stage] = obj;
    }
    return VGD_OK;
}

enum vgd_status vgd_virgl_object_create(struct follow *f)
{
    uint8_t type = f->cmd->object;
    uint32_t at = resource_dword(type);
    enum vgd_status st = at != 0 ? vgd_virgl_resource_check(f, at) : VGD_OK;
    if (st != VGD_OK) {
        return st;
    }
    if (type == VGD_VIRGL_OBJECT_SHADER) {
        return shader_create(f);
    }
    struct object *obj = NULL;
    st = object_make(f, &obj);
    if (st != VGD_OK) {
        return st;
    }
    st = take_handle(f, obj);
    if (st != VGD_OK) {
        object_free(f->state, obj);
    }
    return st;
}
