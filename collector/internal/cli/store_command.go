package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
)

// Exit codes of verify, backup and salvage.
const (
	exitDamage  = 1 // something is damaged, and was named
	exitNotDone = 2 // the command could not do its work
)

// onStore makes cmd a command on the files of a store, which --store names. run does the work
// on the store in dir, writes what is wrong itself, and returns the exit code. The collector that has
// the store is told, so that who did it is recorded.
func (p *program) onStore(cmd *cobra.Command, run func(ctx context.Context, dir string, args []string) int) *cobra.Command {
	var dir string
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		if engine.IsCluster(dir) {
			return errCluster
		}
		return p.coded(p.told(ctx, dir, cmd.Name(), func() int { return run(ctx, dir, args) }))
	}
	cmd.Flags().StringVar(&dir, "store", server.DefaultStore, "the collector's store")
	completion.Flags(cmd, map[string]option.Words{"store": option.Folders})
	return cmd
}

// tellTime is how long a command waits for the collector to hear what it does.
const tellTime = 2 * time.Second

// told runs work, a command on the files of the store in dir, and has the collector that has that
// store, if there is one, record that it began and how it ended. Where that fails, a command with a
// name says so.
func (p *program) told(ctx context.Context, dir, name string, work func() int) (code int) {
	complain := func(err error) {
		if err != nil && name != "" && !errors.Is(err, api.ErrNoServer) && !errors.Is(err, api.ErrQuery) {
			fmt.Fprintf(p.stdio.Err, "%s: the collector that has the store could not be told of this: %v\n", name, err)
		}
	}
	dialing, cancel := context.WithTimeout(ctx, tellTime)
	client, err := api.Dial(dialing, filepath.Join(dir, server.APISocket))
	cancel()
	if err != nil {
		complain(err)
		return work()
	}
	defer func() { _ = client.Close() }()
	telling, stop := context.WithCancel(context.WithoutCancel(ctx)) // it is told also of what was interrupted
	defer stop()
	t, err := client.Tell(telling, p.words)
	if err != nil {
		complain(err)
		return work()
	}
	code = work()
	defer time.AfterFunc(tellTime, stop).Stop()
	complain(t.Ended(code, ""))
	return code
}

// telling has commands on a CA recorded by the collector in the usual place, which may not be that
// CA's own: nobody hears of it where there is none.
func (p *program) telling(cmd *cobra.Command) *cobra.Command {
	for _, sub := range cmd.Commands() {
		p.telling(sub)
	}
	if run := cmd.RunE; run != nil && cmd.Name() != "list" {
		cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
			p.told(cmd.Context(), server.DefaultStore, "", func() int {
				if err = run(cmd, args); err != nil && p.code == 0 {
					return exitDamage
				}
				return p.code
			})
			return err
		}
	}
	return cmd
}
