#version 450
layout(location = 0) in vec3 at; // in pixels, and depth
layout(push_constant) uniform Push { vec4 colour; int mode; } push;

void main()
{
    gl_Position = vec4(at.xy / vec2(1024.0, 768.0) * 2.0 - 1.0, at.z, 1.0);
}
