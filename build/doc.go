// Package build makes images from Dockerfiles with BuildKit as the engine.
//
// It is empty so far: today the pool converts images and nothing else.
package build
