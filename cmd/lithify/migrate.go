package main

import (
	"fmt"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/erofs"
	"github.com/spf13/cobra"
)

func (a *app) migrateCommand() *cobra.Command {
	var to string
	var breakSignature, insecure bool
	cmd := &cobra.Command{
		Use:   "migrate REF --to spec|legacy",
		Short: "Write the manifests of EROFS variants anew in another dialect",
		Long: `Write the manifests of the EROFS variants that lithify made at REF, a registry reference with a tag
or oci:DIR[:TAG], anew in another dialect. Blobs and configs are the same in both: nothing is converted again, and
nothing sent but manifests. REF then names what lithify convert --dialect would have made; the tag
moves only if it still names what was read. stdout gets one line, REF@DIGEST.`,
		Example: `  lithify migrate registry.example.com/debian:12-erofs --to spec`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dialect, err := erofs.ParseDialect(to)
			if err != nil {
				return usageError{fmt.Errorf("--to: %w", err)}
			}
			dst, err := registry.Create(args[0], registry.Options{Insecure: insecure})
			if err != nil {
				return usageError{err}
			}
			r, err := convert.Migrate(cmd.Context(), dst, dialect, breakSignature)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.printJSON(r)
			}
			_, err = fmt.Fprintf(a.out, "%s@%s\n", r.Target, r.Descriptor.Digest)
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&to, "to", "", "dialect: spec (the erofs-image-spec draft) or legacy (containerd up to 2.4)")
	fs.BoolVar(&breakSignature, "break-signature", false, "move REF even if what it names, or a variant, is signed or referred to")
	fs.BoolVar(&insecure, "insecure", false, "speak plain HTTP to the registry")
	return cmd
}
