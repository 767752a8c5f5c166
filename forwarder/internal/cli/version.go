package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/built"
	"github.com/auditfleet/auditfleet/pkg/command"
)

func newVersionCommand(std Stdio, version string) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit, date and the version of Go",
		Args:  command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(std.Out, versionText(version))
			return err
		},
	}
}

func versionText(version string) string {
	return built.Text("auditfleet forwarder " + version + " (" + built.Go() + ")")
}
