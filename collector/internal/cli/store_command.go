package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
)

// Exit codes of verify, backup and salvage.
const (
	exitDamage  = 1 // something is damaged, and was named
	exitNotDone = 2 // the command could not do its work
)

// onStore makes cmd a command on the files of a store, which --store names. run does the work
// on the store in dir, writes what is wrong itself, and returns the exit code.
func (p *program) onStore(cmd *cobra.Command, run func(ctx context.Context, dir string, args []string) int) *cobra.Command {
	var dir string
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p.code = run(cmd.Context(), dir, args)
		if p.code != 0 {
			return errReported
		}
		return nil
	}
	cmd.Flags().StringVar(&dir, "store", server.DefaultStore, "the collector's store")
	completion.Flags(cmd, map[string]option.Words{"store": option.Folders})
	return cmd
}
