// Package restore makes running containers of checkpoints, on this machine's containerd:
// what containerd itself does no more since 2.4, and what Kubernetes leaves out.
//
//	d, err := stack.Dial(stack.DefaultAddress, "default")
//	src, err := registry.Open("registry.example.com/web:checkpoint", registry.Options{})
//	result, err := restore.Container(ctx, d, src, restore.Options{Name: "web-2"})
//
// A checkpoint holds memory and registers, and whoever made it decides what runs: CRIU
// checks nothing of it. What package archive reads is bounded and confined, the new
// container's spec is made of the options and the base image and not of the checkpoint,
// the digests of checkpoint and base image are checked, and processes that could do more than
// the new container are refused. Still, restore only what comes from where you trust.
//
// Package checkpoint makes the images, package image names their form.
package restore
