#version 450
// A rectangle out of six vertices that are nowhere in memory: its corners and colour come with each draw.
layout(push_constant) uniform Push { vec4 rect; vec4 colour; } push; // rect: left, top, right, bottom in clip space
layout(location = 0) out flat vec4 colour;

void main()
{
    const int corner[6] = int[](0, 1, 2, 2, 1, 3);
    int c = corner[gl_VertexIndex];
    gl_Position = vec4((c & 1) == 0 ? push.rect.x : push.rect.z, (c & 2) == 0 ? push.rect.y : push.rect.w, 0.0, 1.0);
    colour = push.colour;
}
