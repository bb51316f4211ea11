// Package archive reads, checks and writes checkpoint archives: tars that container
// engines make of a container's memory and changed files. It touches no engine, and needs
// no root and no CRIU.
//
//	c, err := archive.Read(ctx, r, dir, archive.Limits{}) // of any engine, into a directory
//	...
//	images, err := archive.Validate(dir)                  // may CRIU be given this?
//	...
//	changes := c.Changes(ctx, dir, archive.Limits{})      // the changed files, as an OCI layer
//	...
//	err = archive.Write(ctx, w, dir, c, archive.WriteOptions{Format: archive.CRIO})
//
// # Formats
//
// There is no standard. Three engines write three kinds of archive with the same names in
// them, and none restores another's (image-spec issue 962 is open since 2022). What is
// here was read in containerd 2.1.4 and 2.4.2 (internal/cri/server/container_checkpoint_linux.go,
// core/runtime/v2/shim.go), CRI-O (server/container_restore.go, internal/lib/restore.go), Podman
// (pkg/checkpoint/checkpoint_restore.go, libpod/container_internal_common.go) and checkpointctl 1.6
// (lib/metadata.go, lib/annotations.go):
//
//	                 containerd                    CRI-O                        Podman
//	config.dump      name@digest of the base       image ID of the base         libpod's whole configuration
//	status.dump      needed: CRI's status          -                            -
//	spec.dump        io.kubernetes.cri.*           io.kubernetes.cri-o.*        io.container.manager=libpod
//	checkpoint/      CRIU's images, flat           the same                     the same
//	rootfs-diff.tar  OCI layer with whiteouts      tar                          tar
//	deleted.files    -                             JSON list of paths           JSON list of paths
//	log              container.log                 io.kubernetes.cri-o.LogPath  ctr.log
//
// What containerd's client makes (ctr containers checkpoint) is no archive but an index of
// blobs in its content store, which no registry takes: see [Native].
//
// Ours have one file more, lithify.json, which the engines pass over: both references to the
// base image, and the facts of the host that CRIU's images do not hold (see [Host]).
//
// # Trust
//
// An archive is somebody's memory dump and cannot be trusted more than a program of
// theirs. [Read] takes out of it the files whose names it knows, and refuses the whole
// archive if anything in it could reach outside. [Derive] is all that its spec is good for.
// The base image is known by its digest: a name in an archive is neither followed nor
// made a tag. What is in memory cannot be checked by anyone: CRIU restores registers and
// pages as they are.
package archive
