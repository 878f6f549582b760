#version 450
// The colour by way of the vertices: llvmpipe 26.1 reads push constants at a wrong offset in a fragment shader that
// reads nothing else.
layout(location = 0) in flat vec4 colour;
layout(location = 0) out vec4 pixel;

void main()
{
    pixel = colour;
}
