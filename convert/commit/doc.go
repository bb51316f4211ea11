// Package commit makes an image of a container: the image that the container stands on
// and, as a new layer, what has changed in it since. The result is published as
// package convert publishes one, as it is and with an EROFS variant beside it.
//
//	d, err := stack.Dial(stack.DefaultAddress, "default")
//	c, err := d.Container(ctx, "web-1")
//	result, err := commit.Container(ctx, c, dst, commit.Options{Message: "patched"})
package commit
