// Package stack reaches into containerd: the containers, snapshots and content that
// package commit makes images of.
//
//	d, err := stack.Dial(stack.DefaultAddress, "default")
//	c, err := d.Container(ctx, "web-1")
//	thaw, err := c.Freeze(ctx)
//	up, err := c.Upper(ctx) // what the container has changed
//	...
//	err = thaw()
//
// A program that calls Freeze calls [RunGuard] first in main.
package stack
