package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

const sealHelp = `A store has a log: a leaf for each group of events that was stored, with its hash, for each day that was dropped,
and for what compaction made of days, in a tree that only grows. A checkpoint says how far it is and its root, signed.
Whoever has a checkpoint from another place and the public key can tell later what was changed:
collector verify --checkpoint FILE --key KEY.

seal init makes the key; give its public part to those who are to check. A collector that has the key signs at least
every ten minutes when anything changed.`

// sealFlags are what a command of seal is told.
type sealFlags struct {
	where
	key, name, reason string
	now               bool
}

func (p *program) sealCommand() *cobra.Command {
	f := &sealFlags{}
	words := map[string]option.Words{"store": option.Folders, "api": option.Files, "tls-ca": option.Files, "tls-cert": option.Files, "tls-key": option.Files, "key": option.Files}
	part := func(use, short string, flags func(cmd *cobra.Command), run func(ctx context.Context) error) *cobra.Command {
		cmd := &cobra.Command{Use: use, Short: short, Args: command.NoArgs, ValidArgsFunction: cobra.NoFileCompletions}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			err := run(cmd.Context())
			if err != nil && p.code == 0 {
				p.code = exitNotDone
			}
			if err != nil {
				return fmt.Errorf("seal: %w", err)
			}
			return nil
		}
		flags(cmd)
		has := map[string]option.Words{}
		for name, w := range words {
			if cmd.Flags().Lookup(name) != nil {
				has[name] = w
			}
		}
		completion.Flags(cmd, has)
		return cmd
	}
	key := func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&f.key, "key", server.DefaultSealKey, "the file of the secret key")
	}
	cmd := part("seal", "Sign what is stored, so that changes can be proved", func(cmd *cobra.Command) { addWhere(cmd, &f.where) },
		func(ctx context.Context) error { return p.sealCheckpoint(ctx, f) })
	cmd.Long = sealHelp
	cmd.AddCommand(
		part("init [--key FILE] [--name NAME]", "Make the key that signs, and print its public part", func(cmd *cobra.Command) {
			key(cmd)
			cmd.Flags().StringVar(&f.name, "name", "", "the name of the log, in every checkpoint (default the host name)")
		}, func(context.Context) error { return p.sealInit(f) }),
		part("key [--key FILE]", "Print the public part of the key", key, func(context.Context) error { return p.sealKey(f) }),
		part("checkpoint [--now]", "Print the newest checkpoint", func(cmd *cobra.Command) {
			addWhere(cmd, &f.where)
			cmd.Flags().BoolVar(&f.now, "now", false, "store what is in memory and sign it now; of a running collector, on its machine")
		}, func(ctx context.Context) error { return p.sealCheckpoint(ctx, f) }),
		part("accept --reason TEXT", "Have the log go on after a store was put back", func(cmd *cobra.Command) {
			addWhere(cmd, &f.where)
			key(cmd)
			cmd.Flags().StringVar(&f.reason, "reason", "", "why, in a line: it stands in the log for good")
		}, func(ctx context.Context) error { return p.sealAccept(ctx, f) }))
	return cmd
}

// sealInit makes a key.
func (p *program) sealInit(f *sealFlags) error {
	name := f.name
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return err
		}
	}
	public, err := seal.InitKey(f.key, name)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: `collector seal key` prints its public part; what it signed can be checked with that only", f.key)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdio.Err, "the secret key is %s; the collector uses it from its next start on (seal_key)\ngive this, the public key, to those who are to check:\n", terminal.Clean(f.key))
	fmt.Fprintln(p.stdio.Out, public)
	return nil
}

// sealKey prints the public part of a key.
func (p *program) sealKey(f *sealFlags) error {
	_, public, err := seal.ReadKey(f.key)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: `collector seal init` makes one", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(p.stdio.Out, public)
	return nil
}

// sealCheckpoint prints the newest checkpoint: of a running collector, or of a store that none has.
func (p *program) sealCheckpoint(ctx context.Context, f *sealFlags) error {
	if err := f.where.check(); err != nil {
		return err
	}
	client, dir, err := f.where.client(ctx)
	if err != nil {
		return err
	}
	var text []byte
	var why string
	if client == nil {
		if f.now {
			return errors.New("--now: no collector has the store; it signed what it had when it stopped")
		}
		list, err := seal.ReadCheckpoints(dir)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			text = list[len(list)-1]
		}
		if why, err = seal.Stopped(dir); err != nil {
			return err
		}
	} else {
		st, err := client.Checkpoint(ctx, f.now, 0)
		if err = errors.Join(err, client.Close()); err != nil {
			return err
		}
		text, why = st.GetText(), st.GetStopped()
		if e := st.GetError(); e != "" && why == "" {
			fmt.Fprintf(p.stdio.Err, "seal: the last attempt to sign failed: %s\n", terminal.Clean(e))
		}
	}
	if _, err := p.stdio.Out.Write(text); err != nil {
		return err
	}
	switch {
	case why != "":
		p.code = exitDamage
		fmt.Fprintf(p.stdio.Err, "seal: nothing is signed any more: %s\nseal: look into it; after a restore: collector seal accept --reason TEXT\n", terminal.Clean(strings.ReplaceAll(why, "\n", "; ")))
		return errReported
	case len(text) == 0:
		return errors.New("there is no checkpoint yet: is there a key (`collector seal init`), and was the collector started since?")
	}
	return nil
}

// sealAccept has a log go on.
func (p *program) sealAccept(ctx context.Context, f *sealFlags) error {
	if strings.TrimSpace(f.reason) == "" {
		return errors.New("--reason TEXT: say why, it stands in the log for good")
	}
	if err := errors.Join(seal.CheckReason(f.reason), f.where.check()); err != nil {
		return err
	}
	client, dir, err := f.where.client(ctx)
	if err != nil {
		return err
	}
	var text []byte
	if client == nil {
		who := fmt.Sprintf("uid=%d", os.Getuid())
		if u, err := user.Current(); err == nil {
			who = u.Username
		}
		log := hclog.New(&hclog.LoggerOptions{Name: "collector", Output: terminal.GuardLog(p.stdio.Err), Level: hclog.Error})
		text, err = server.AcceptLog(ctx, dir, f.key, fmt.Sprintf("%s (%s)", f.reason, who), log)
		if err != nil {
			return err
		}
	} else {
		st, err := client.AcceptLog(ctx, f.reason)
		if err = errors.Join(err, client.Close()); err != nil {
			return err
		}
		text = st.GetText()
	}
	_, err = p.stdio.Out.Write(text)
	return err
}
