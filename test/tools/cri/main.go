// Command cri makes one call of Kubernetes' runtime interface, as a kubelet would: what the
// tests need of crictl, which is no module.
//
//	cri SOCKET version | pull IMAGE | run POD | create POD-ID POD CONTAINER IMAGE COMMAND... |
//	    start ID | exec ID COMMAND... | checkpoint ID FILE | remove ID | removepod ID
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: cri SOCKET CALL [ARGUMENT]...")
	}
	conn, err := grpc.NewClient("unix://"+args[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return call(ctx, cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn), args[1], args[2:])
}

func call(ctx context.Context, rt cri.RuntimeServiceClient, images cri.ImageServiceClient, name string, args []string) (err error) {
	switch {
	case name == "version":
		_, err = rt.Version(ctx, &cri.VersionRequest{})
	case name == "pull" && len(args) == 1:
		_, err = images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: args[0]}})
	case name == "run" && len(args) == 1:
		var r *cri.RunPodSandboxResponse
		r, err = rt.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: pod(args[0])})
		fmt.Println(r.GetPodSandboxId())
	case name == "create" && len(args) > 4:
		var r *cri.CreateContainerResponse
		r, err = rt.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: args[0], SandboxConfig: pod(args[1]), Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: args[2]}, Image: &cri.ImageSpec{Image: args[3]}, Command: args[4:],
			Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: namespaces}},
		}})
		fmt.Println(r.GetContainerId())
	case name == "start" && len(args) == 1:
		_, err = rt.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: args[0]})
	case name == "exec" && len(args) > 1:
		var r *cri.ExecSyncResponse
		r, err = rt.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: args[0], Cmd: args[1:], Timeout: 60})
		fmt.Printf("%s", r.GetStdout())
		if err == nil && r.ExitCode != 0 {
			err = fmt.Errorf("exit code %d: %s", r.ExitCode, r.Stderr)
		}
	case name == "checkpoint" && len(args) == 2:
		_, err = rt.CheckpointContainer(ctx, &cri.CheckpointContainerRequest{ContainerId: args[0], Location: args[1], Timeout: 60})
	case name == "remove" && len(args) == 1:
		_, err = rt.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: args[0]})
	case name == "removepod" && len(args) == 1:
		_, err = rt.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: args[0]})
		if err == nil {
			_, err = rt.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: args[0]})
		}
	default:
		err = fmt.Errorf("%s with %d arguments is no call", name, len(args))
	}
	return err
}

// namespaces: the machine's network needs no CNI.
var namespaces = &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER}

func pod(name string) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name},
		Linux:    &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: namespaces}},
	}
}
