package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/forwarder/internal/witness"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
)

const witnessHelp = `Lists what collectors have signed of their logs and this host keeps: of each
store the newest checkpoint, and what was found when another one came (a log that was
changed or put back, another key). Only a forwarder with --transport grpc is a
witness, of collectors that have a key.

witness export prints a checkpoint as it was signed, for
"collector verify --checkpoint FILE --key K" on a copy of the store; witness accept
notes that a finding is explained, so that forwarder doctor has it no more.

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 something was found that nobody
has accepted.`

const exportHelp = `Prints the newest checkpoint that this host keeps of a store, as it was signed,
or with --day the last one of a day (UTC; the last 400 days on which there was one).
STORE is a store's ID or its beginning, or a server; it may be left out where there
is one. --finding prints the checkpoint that had been kept when something was found,
and with --given the one that came.

Exit codes: 0 done, 1 there is none, 2 wrong command line.`

// witnessFlags holds the values of the flags of witness and of what is below it.
type witnessFlags struct {
	spool, format, day, finding string
	given, all                  bool
}

func newWitnessCommand(std Stdio) *cobra.Command {
	o := &witnessFlags{}
	cmd := &cobra.Command{
		Use: "witness [flags]", Short: "List what collectors have signed, as this host keeps it", Long: witnessHelp, Args: command.NoArgs,
		Example: "  forwarder witness\n  forwarder witness export >checkpoint\n  forwarder witness accept 0123456789abcdef",
		RunE:    func(*cobra.Command, []string) error { return o.list(std) },
	}
	export := &cobra.Command{
		Use: "export [flags] [STORE]", Short: "Print a checkpoint as it was signed", Long: exportHelp, Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error { return o.export(std, args) },
	}
	accept := &cobra.Command{
		Use: "accept [flags] [FINDING…]", Short: "Note that findings are explained", Args: cobra.ArbitraryArgs,
		Long: "Notes that findings are explained: they are kept, and no longer shown as something to look at.\n\nExit codes: 0 done, 1 failed, 2 wrong command line.",
		RunE: func(_ *cobra.Command, args []string) error { return o.accept(std, args) },
	}
	for _, c := range []*cobra.Command{cmd, export, accept} {
		c.Flags().SortFlags = false
		c.Flags().StringVar(&o.spool, "spool", defaultSpool, "folder of the spool")
	}
	cmd.Flags().StringVar(&o.format, "format", "text", "text or json")
	export.Flags().StringVar(&o.day, "day", "", "the last one of this day, such as 2026-11-29 (UTC)")
	export.Flags().StringVar(&o.finding, "finding", "", "the one that had been kept when this was found")
	export.Flags().BoolVar(&o.given, "given", false, "with --finding: the one that came")
	accept.Flags().BoolVar(&o.all, "all", false, "every finding")
	completion.Flags(cmd, map[string]option.Words{"spool": option.Folders, "format": option.These("text", "json")})
	completion.Flags(export, map[string]option.Words{"spool": option.Folders})
	completion.Flags(accept, map[string]option.Words{"spool": option.Folders})
	cmd.AddCommand(export, accept)
	return cmd
}

// heldJSON and findingJSON are what --format json prints; their fields keep their names.
type heldJSON struct {
	Store    string    `json:"store"`
	Servers  []string  `json:"servers"`
	Size     int64     `json:"size"`
	Root     string    `json:"root"`
	Time     time.Time `json:"time"`
	Key      string    `json:"key"`
	Verified string    `json:"verified"` // "seal_keys" or "first use"
	First    time.Time `json:"first"`
	Seen     time.Time `json:"seen"`
}

type findingJSON struct {
	ID       string    `json:"id"`
	Op       string    `json:"op"`
	Server   string    `json:"server"`
	When     time.Time `json:"when"`
	Text     string    `json:"text"`
	Accepted bool      `json:"accepted"`
	Alarm    bool      `json:"alarm"`
}

func (o *witnessFlags) list(std Stdio) error {
	if o.format != "text" && o.format != "json" {
		return command.Wrongf("--format: %q is neither text nor json", o.format)
	}
	k, err := witness.Read(o.spool)
	if err != nil {
		return err
	}
	if o.format == "json" {
		err = witnessJSON(std, k)
	} else {
		err = witnessText(std, k)
	}
	if slices.ContainsFunc(k.Incidents, func(i *witness.Incident) bool { return i.Alarm() && !i.Accepted }) || len(k.Damaged) > 0 {
		err = errors.Join(err, coded(exitLeft))
	}
	return err
}

func witnessJSON(std Stdio, k witness.Kept) error {
	out := struct {
		Held     []heldJSON    `json:"held"`
		Findings []findingJSON `json:"findings"`
		Damaged  []string      `json:"damaged,omitempty"`
	}{[]heldJSON{}, []findingJSON{}, k.Damaged}
	for _, h := range k.Held {
		j := heldJSON{Store: h.Store, Size: h.Size, Root: h.Root.String(), Time: h.Time.UTC(), Key: h.Key, Verified: h.Verified(), First: h.First.UTC(), Seen: h.Seen.UTC()}
		for _, s := range h.Servers {
			j.Servers = append(j.Servers, s.Name)
		}
		out.Held = append(out.Held, j)
	}
	for _, i := range k.Incidents {
		out.Findings = append(out.Findings, findingJSON{i.ID, i.Op, i.Server, i.When.UTC(), i.Text, i.Accepted, i.Alarm()})
	}
	enc := json.NewEncoder(std.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}

func witnessText(std Stdio, k witness.Kept) error {
	var b strings.Builder
	for _, h := range k.Held {
		var servers []string
		for _, s := range h.Servers {
			servers = append(servers, s.Name)
		}
		fmt.Fprintf(&b, "%s\n  store    %s\n  size     %d leaves\n  root     %s\n  signed   %s\n  key      %s (%s)\n  seen     since %s, last new %s\n", strings.Join(servers, ", "), h.Store, h.Size, h.Root,
			h.Time.UTC().Format(time.RFC3339), h.Key, h.Verified(), h.First.UTC().Format(time.RFC3339), h.Seen.UTC().Format(time.RFC3339))
	}
	if len(k.Held) == 0 {
		b.WriteString("no collector has signed anything that this host keeps: only by grpc, and where the collector has a key (collector seal init)\n")
	}
	for _, i := range k.Incidents {
		state := "FOUND"
		switch {
		case i.Accepted:
			state = "accepted"
		case !i.Alarm():
			state = "noted"
		}
		fmt.Fprintf(&b, "%s %s %s %s: %s: %s%s\n", state, i.ID, i.When.UTC().Format(time.RFC3339), i.Server, i.Op, i.Text, sizes(i))
	}
	for _, path := range k.Damaged {
		fmt.Fprintf(&b, "damaged %s\n", path)
	}
	_, err := fmt.Fprint(std.Out, b.String())
	return err
}

// sizes says which checkpoints a finding is about.
func sizes(i *witness.Incident) (text string) {
	for _, x := range []struct {
		word string
		text []byte
	}{{"held", i.Held}, {"given", i.Given}} {
		if c, err := checkpoint.Parse(x.text); err == nil {
			text += fmt.Sprintf("; %s %d leaves, root %s, signed %s", x.word, c.Size, c.Root, c.Time.UTC().Format(time.RFC3339))
		}
	}
	return text
}

func (o *witnessFlags) export(std Stdio, args []string) error {
	switch {
	case len(args) > 1:
		return command.Wrongf("one STORE, not %d", len(args))
	case o.finding != "" && (len(args) > 0 || o.day != ""):
		return command.Wrongf("--finding goes with neither STORE nor --day")
	case o.given && o.finding == "":
		return command.Wrongf("--given goes with --finding")
	}
	if _, err := time.Parse(time.DateOnly, o.day); o.day != "" && err != nil {
		return command.Wrongf("--day: %q is no day such as 2026-11-29", o.day)
	}
	k, err := witness.Read(o.spool)
	if err != nil {
		return err
	}
	var text []byte
	if o.finding != "" {
		text, err = o.evidence(k)
	} else {
		text, err = o.checkpoint(k, args)
	}
	if err != nil {
		return err
	}
	_, err = std.Out.Write(text)
	return err
}

func (o *witnessFlags) evidence(k witness.Kept) ([]byte, error) {
	for _, i := range k.Incidents {
		if i.ID != o.finding {
			continue
		}
		text := i.Held
		if o.given {
			text = i.Given
		}
		if len(text) == 0 {
			return nil, fmt.Errorf("nothing of the kind was kept with %s", o.finding)
		}
		return text, nil
	}
	return nil, fmt.Errorf("no finding %q is kept in %s: `forwarder witness` lists them", o.finding, o.spool)
}

func (o *witnessFlags) checkpoint(k witness.Kept, args []string) ([]byte, error) {
	list := k.Held
	if len(args) == 1 {
		list = slices.DeleteFunc(slices.Clone(list), func(h *witness.Held) bool {
			return !strings.HasPrefix(h.Store, args[0]) && !slices.ContainsFunc(h.Servers, func(s witness.Server) bool { return s.Name == args[0] })
		})
	}
	switch {
	case len(list) == 0:
		return nil, fmt.Errorf("no such checkpoint is kept in %s: `forwarder witness` lists them", o.spool)
	case len(list) > 1:
		return nil, fmt.Errorf("checkpoints of %d stores are kept: say of which, such as %s", len(list), list[0].Store)
	case o.day == "":
		return list[0].Text, nil
	}
	days, err := witness.Days(o.spool, list[0].Store)
	if err != nil {
		return nil, err
	}
	if list[0].Seen.UTC().Format(time.DateOnly) == o.day {
		return list[0].Text, nil
	}
	for _, d := range days {
		if d.Day == o.day {
			return d.Text, nil
		}
	}
	return nil, fmt.Errorf("no checkpoint of %s is kept: %d days have one", o.day, len(days)+1)
}

func (o *witnessFlags) accept(std Stdio, args []string) error {
	if o.all == (len(args) > 0) {
		return command.Wrongf("say which FINDINGs, or --all: `forwarder witness` lists them")
	}
	n, err := witness.Accept(o.spool, args, o.all)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.Out, "%d accepted\n", n)
	return err
}
