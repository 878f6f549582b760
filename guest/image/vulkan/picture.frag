#version 450
// mode 0: the colour; 1: gradient; 2: texture
layout(location = 0) out vec4 pixel;
layout(push_constant) uniform Push { vec4 colour; int mode; } push;
layout(set = 0, binding = 0) uniform sampler2D image;

void main()
{
    vec2 at = gl_FragCoord.xy;
    if (push.mode == 1)
        pixel = vec4((floor(at.x) - 64.0) / 255.0, 2.0 * (floor(at.y) - 64.0) / 255.0, 128.0 / 255.0, 1.0);
    else if (push.mode == 2)
        pixel = texture(image, (at - vec2(128.0, 480.0)) / 256.0);
    else
        pixel = push.colour;
}
