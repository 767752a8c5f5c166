package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/command"
)

func newVersionCommand(std Stdio, version string) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(std.Out, versionText(version))
			return err
		},
	}
}

func versionText(version string) string {
	return fmt.Sprintf("auditfleet forwarder %s (%s, %s/%s)", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
