// Package stack is containerd, twice.
//
// [Open] makes one of this process's own, without a daemon: images are pulled, unpacked
// and mounted by containerd's own code.
//
//	s, err := stack.Open(ctx, "/var/lib/lithify/stack", log)
//	ctx, release, err := s.Lease(ctx)
//	err = s.Pull(ctx, src, ref, stack.EROFS)
//	dir, unmount, err := s.Mount(ctx, ref, stack.EROFS)
//	...
//	err = errors.Join(unmount(), release(), s.Close())
//
// [Dial] reaches into a daemon: the containers, snapshots and content that package
// commit makes images of.
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
