package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/alert"
	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// exitFiring says that an alert fires, for cron. 1 is that no collector could be asked.
const exitFiring = 3

const alertsHelp = `alerts lists what is wrong now, the worst first, and what was over in the last hour; with --all, in the last
day. HOSTS choose hosts, and may be patterns such as 'web*'; alerts about the collector itself have no host.

The exit code is 0 when nothing fires, 3 when something does, 2 for wrong words, and 1 when no collector could be
asked. Conditions, with their thresholds and severities, are keys of collector.conf(5) (alert_…), and
'alerts conditions' shows them as they are set. 'alerts test' sends a test to those who are told.`

// recently is how long ago an alert may have ended to be listed without --all.
const recently = time.Hour

// alertFlags are what alerts is told.
type alertFlags struct {
	where
	format     string
	conditions []string
	all        bool
	program    *program
}

func (p *program) alertsCommand() *cobra.Command {
	f := &alertFlags{program: p}
	cmd := &cobra.Command{
		Use:   "alerts [HOSTS] [--condition NAME] [--all] [--format text|json] [--store DIR | --api SOCKET]",
		Short: "List what is wrong with hosts and the collector",
		Long:  alertsHelp,
		Args:  cobra.ArbitraryArgs,
		RunE:  func(cmd *cobra.Command, hosts []string) error { return f.list(cmd.Context(), hosts) },
	}
	cmd.ValidArgsFunction = completeHosts
	cmd.Flags().StringSliceVar(&f.conditions, "condition", nil, "only these conditions; several with commas")
	cmd.Flags().BoolVar(&f.all, "all", false, "all that was over in the last day")
	f.common(cmd)
	completion.Flags(cmd, map[string]option.Words{"condition": option.These(alert.Names()...)})
	cmd.AddCommand(p.alertsTestCommand(), p.alertsConditionsCommand())
	return cmd
}

// common adds the flags that alerts and its commands have.
func (f *alertFlags) common(cmd *cobra.Command) {
	addWhere(cmd, &f.where)
	cmd.Flags().StringVar(&f.format, "format", "text", "text or json")
	completion.Flags(cmd, map[string]option.Words{"format": option.These("text", "json"), "store": option.Folders, "api": option.Files, "tls-ca": option.Files, "tls-cert": option.Files, "tls-key": option.Files})
}

func (p *program) alertsTestCommand() *cobra.Command {
	f := &alertFlags{program: p, format: "text"}
	cmd := &cobra.Command{
		Use:   "test [SINK] [--store DIR | --api SOCKET]",
		Short: "Send a test to one of those who are told, or to all",
		Long: "test sends an alert that says that it is a test through the sink SINK, or through all, at once, and says what\n" +
			"the other end answered. The exit code is 0 when all took it, 1 when one did not or no collector could be\n" +
			"asked, and 2 for wrong words. On another machine (--server) it takes the role admin.",
		Args: command.UpTo(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.test(cmd.Context(), append(args, "")[0]) },
	}
	addWhere(cmd, &f.where)
	completion.Flags(cmd, map[string]option.Words{"store": option.Folders, "api": option.Files, "tls-ca": option.Files, "tls-cert": option.Files, "tls-key": option.Files})
	return cmd
}

func (p *program) alertsConditionsCommand() *cobra.Command {
	f := &alertFlags{program: p}
	cmd := &cobra.Command{
		Use:   "conditions [--format text|json] [--store DIR | --api SOCKET]",
		Short: "Show the conditions with the thresholds in force, and who is told",
		Args:  command.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return f.showConditions(cmd.Context()) },
	}
	f.common(cmd)
	return cmd
}

// wrong is an error of the words given.
func (f *alertFlags) wrong(err error) error {
	f.program.code = command.ExitUsage
	return command.Wrong(err)
}

// check says what is wrong with the words.
func (f *alertFlags) check() error {
	if f.format != "text" && f.format != "json" {
		return f.wrong(fmt.Errorf("--format %.80s: it is text or json", f.format))
	}
	if f.store != "" && f.api != "" {
		return f.wrong(errors.New("--store and --api: only one of them can be asked"))
	}
	if err := f.where.check(); err != nil {
		return f.wrong(err)
	}
	for _, c := range f.conditions {
		if _, err := alert.ByName(c); err != nil {
			return f.wrong(fmt.Errorf("--condition: %w", err))
		}
	}
	return nil
}

// ask calls fn with a client of the collector that runs.
func (f *alertFlags) ask(ctx context.Context, fn func(*api.Client) error) (err error) {
	var c *api.Client
	if f.server != "" {
		c, err = dial(ctx, f.server, f.tls)
	} else {
		path := cmp.Or(f.api, filepath.Join(cmp.Or(f.store, server.DefaultStore), server.APISocket))
		c, err = api.Dial(ctx, path)
		if errors.Is(err, api.ErrNoServer) {
			err = fmt.Errorf("%w: alerts are those of a running collector; start it, or give its --store or --api", err)
		}
	}
	if err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := fn(c); err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	return nil
}

func (f *alertFlags) list(ctx context.Context, hosts []string) error {
	if err := f.check(); err != nil {
		return err
	}
	var resp *fleet.AlertsResponse
	if err := f.ask(ctx, func(c *api.Client) (err error) {
		resp, err = c.Alerts(ctx)
		return err
	}); err != nil {
		return err
	}
	now, firing := time.Now(), 0
	var list []*fleet.Alert
	for _, a := range resp.GetAlerts() {
		host := a.GetLabels()["host"]
		switch {
		case len(hosts) > 0 && !slices.ContainsFunc(hosts, func(p string) bool { return host != "" && query.Like(p, host) }):
			continue
		case len(f.conditions) > 0 && !slices.Contains(f.conditions, a.GetCondition()):
			continue
		case a.GetState() == alert.Firing:
			firing++
		case !f.all && now.Sub(time.UnixMilli(a.GetEndedMs())) > recently:
			continue
		}
		list = append(list, a)
	}
	out, text := f.program.stdio.Out, alertsText(list, now)
	if f.format == "json" {
		out, text = terminal.GuardAs(out, terminal.JSON), alertsJSON(list)
	}
	if err := write(out, text); err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	if firing > 0 {
		f.program.code = exitFiring
		return errReported
	}
	return nil
}

// alertWidth is how wide the lists of alerts are.
const alertWidth = 100

// alertsText writes two lines or more of each alert: what it is, and what to do.
func alertsText(list []*fleet.Alert, now time.Time) []byte {
	var b bytes.Buffer
	for _, a := range list {
		at, word := time.UnixMilli(a.GetStartedMs()), "since"
		mark := strings.ToUpper(a.GetSeverity())
		if a.GetState() != alert.Firing {
			at, word, mark = time.UnixMilli(a.GetEndedMs()), "over since", "resolved"
		}
		about := ""
		for _, k := range slices.Sorted(maps.Keys(a.GetLabels())) {
			if k == "host" {
				continue
			}
			about += " " + k + "=" + a.GetLabels()[k]
		}
		head := fmt.Sprintf("%-8s  %s  %s%s", mark, a.GetCondition(), a.GetLabels()["host"], about)
		head = strings.TrimSpace(head)
		when := fmt.Sprintf("%s %s (%s)", word, at.Local().Format(time.DateTime), span(now.Sub(at).Round(time.Second)))
		if len(head)+2+len(when) <= alertWidth {
			fmt.Fprintf(&b, "%s  %s\n", terminal.Clean(head), when)
		} else {
			fmt.Fprintf(&b, "%s\n          %s\n", terminal.Clean(head), when)
		}
		for _, l := range wrapped(terminal.Clean(a.GetSummary()), alertWidth-10) {
			fmt.Fprintf(&b, "          %s\n", l)
		}
	}
	if len(list) == 0 {
		b.WriteString("nothing fires\n")
	}
	return b.Bytes()
}

// wrapped divides a text into lines.
func wrapped(text string, width int) (lines []string) {
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len(line)+1+len(w) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	return append(lines, line)
}

func alertsJSON(list []*fleet.Alert) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, a := range list {
		one := struct {
			ID        string            `json:"id"`
			Condition string            `json:"condition"`
			Severity  string            `json:"severity"`
			State     string            `json:"state"`
			Labels    map[string]string `json:"labels"`
			Summary   string            `json:"summary"`
			Value     string            `json:"value"`
			Started   string            `json:"started"`
			Ended     string            `json:"ended,omitempty"`
			Told      string            `json:"told,omitempty"`
			Flapping  bool              `json:"flapping"`
		}{a.GetId(), a.GetCondition(), a.GetSeverity(), a.GetState(), a.GetLabels(), a.GetSummary(), a.GetValue(), utc(a.GetStartedMs()), utc(a.GetEndedMs()), utc(a.GetToldMs()), a.GetFlapping()}
		if one.Labels == nil {
			one.Labels = map[string]string{}
		}
		if err := enc.Encode(&one); err != nil {
			panic(err) // strings
		}
	}
	return b.Bytes()
}

func (f *alertFlags) test(ctx context.Context, sink string) error {
	if err := f.check(); err != nil {
		return err
	}
	return f.ask(ctx, func(c *api.Client) error {
		tests, err := c.TestAlert(ctx, sink)
		if err != nil {
			return err
		}
		failed := false
		for _, t := range tests {
			word := "delivered"
			if t.GetError() != "" {
				word, failed = "NOT delivered: "+t.GetError(), true
			}
			fmt.Fprintf(f.program.stdio.Out, "%s: %s\n", terminal.Clean(t.GetSink()), terminal.Clean(word))
		}
		if len(tests) == 0 {
			return errors.New("nobody is told of alerts: alert_sinks in collector.conf names the folder with those who are")
		}
		if failed {
			f.program.code = 1
			return errReported
		}
		return nil
	})
}

func (f *alertFlags) showConditions(ctx context.Context) error {
	if err := f.check(); err != nil {
		return err
	}
	return f.ask(ctx, func(c *api.Client) error {
		resp, err := c.Alerts(ctx)
		if err != nil {
			return err
		}
		if f.format == "json" {
			return write(terminal.GuardAs(f.program.stdio.Out, terminal.JSON), conditionsJSON(resp.GetConditions()))
		}
		var b bytes.Buffer
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "CONDITION\tTHRESHOLD\tSEVERITY\tFIRING")
		for _, c := range resp.GetConditions() {
			severity := c.GetSeverity()
			if c.GetOff() {
				severity = "off"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\n", c.GetName(), cmp.Or(c.GetThreshold(), "-"), severity, c.GetFiring())
		}
		if len(resp.GetSinks()) > 0 {
			fmt.Fprintln(w, "\nSINK\tKIND\tQUEUED\tDROPPED\tSTATE")
		}
		for _, s := range resp.GetSinks() {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", s.GetName(), s.GetKind(), s.GetQueued(), s.GetDropped(), cmp.Or(terminal.Clean(s.GetError()), "ok"))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		return write(f.program.stdio.Out, b.Bytes())
	})
}

func conditionsJSON(list []*fleet.AlertCondition) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, c := range list {
		if err := enc.Encode(map[string]any{"condition": c.GetName(), "off": c.GetOff(), "threshold": c.GetThreshold(), "severity": c.GetSeverity(), "firing": c.GetFiring(), "about": c.GetDoc()}); err != nil {
			panic(err) // strings
		}
	}
	return b.Bytes()
}
