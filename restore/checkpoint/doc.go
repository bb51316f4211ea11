// Package checkpoint makes an image of a running container: its processes' memory, by
// CRIU, and what it has changed on disk, both of one instant. The container runs on, or is
// stopped once the image has been published.
//
//	d, err := stack.Dial(stack.DefaultAddress, "default")
//	c, err := d.Container(ctx, "web-1")
//	result, err := checkpoint.Container(ctx, c, dst, checkpoint.Options{})
//
// A program that calls Container calls [stack.RunGuard] first in main.
package checkpoint
