package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/evidence"
	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/nearest"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

const evidenceUsage = `usage: evidence [search options] --out DIR
       evidence verify DIR --key KEY

Makes a bundle of records that others can check: what a search finds, byte for byte, with sender and time of receipt, the
coverage of that time, the proof that each event stood in the collector's log, the signed checkpoint of the log, a signed
manifest, and a README.md that explains how to check it, by hand too. collector-search(8) has the options that
choose events (-k, -n, -ts, -te, -m …); those that say how to print do not go with it. Of collectors with events in one
cluster (--store clickhouse://…) each proves what it has stored; a bundle says what others have.

       --out DIR                where the bundle goes: a folder that is not there yet
       --at-checkpoint FILE     prove by this checkpoint, which the collector has signed before: the same question
                                gives the same bundle again
       --store DIR              the collector's store: asks the collector that has it, or reads it when none does
       --api SOCKET             the query socket of a running collector
       --server HOST:PORT       a collector on another machine, by its gRPC port, as who --tls-cert says
       --tls-ca FILE --tls-cert FILE --tls-key FILE
                                by what it is known, and who asks
       -h, --help               this help

evidence verify needs the bundle and the collector's public key, and no collector:

       --key KEY                a file with public keys as collector seal init prints them, or one key

The exit code is 0 when the bundle is made, or is good; 1 when nothing was found, or the bundle was changed; 2 when it could
not be made or checked, when what is stored is not what the log has, or when not all events of a checked one are proved.
`

// exitBundle are the exit codes of evidence.
const (
	exitBundleNone = 1 // made of nothing: no event was found
	exitChanged    = 1 // the bundle is not as it was made
	exitNotChecked = 2 // it was not made, or not checked, or not all is proved
	exitTampered   = 2 // it was made, and what is stored is not what the log has
)

// printing are options of search that say how to print, or look elsewhere than in the store.
var printing = []string{
	"--help", "--version", "--interpret", "--line-buffered", "--raw", "--escape", "--extra-keys", "--extra-labels", "--extra-obj2", "--extra-time", "--format", "--just-one", "--input", "--checkpoint",
	"--debug", "--eoe-timeout", "--input-logs", "--around", "--color", "--count", "--csv-rfc4180", "--csv-safe", "--follow", "--limit", "--milliseconds", "--no-pager", "--reverse", "--tree", "--with-host", "--coverage", "--no-coverage-note", "--also", "--also-wait",
}

// evidenceOptions is what evidence takes.
func evidenceOptions() option.Table {
	var table option.Table
	for _, o := range search.OptionTable() {
		if long := o.Names[len(o.Names)-1]; !slices.Contains(printing, long) || long == "--help" {
			table = append(table, o)
		}
	}
	for _, o := range render.Options {
		if !slices.Contains(printing, o.Names[0]) {
			table = append(table, o)
		}
	}
	return append(table,
		option.Option{Names: []string{"--out"}, Value: "DIR", Brief: "where the bundle goes", Equals: true, Words: option.Folders},
		option.Option{Names: []string{"--at-checkpoint"}, Value: "FILE", Brief: "prove by this checkpoint", Equals: true, Words: option.Files})
}

// evidenceVerifyOptions is what evidence verify takes.
func evidenceVerifyOptions() option.Table {
	return option.Table{
		{Names: []string{"--key"}, Value: "KEY", Brief: "the collector's public key, or a file with it", Equals: true, Words: option.Files},
		{Names: []string{"-h", "--help"}, Brief: "this help"},
	}
}

// evidenceCommand serves `collector --help` and completion only; Run calls evidence itself.
func (p *program) evidenceCommand() *cobra.Command {
	make, verify := completion.By(fromStore(evidenceOptions()), option.Words{}), completion.By(evidenceVerifyOptions(), option.Folders)
	return completion.Help(&cobra.Command{
		Use:                "evidence [search options] --out DIR | evidence verify DIR --key KEY",
		Short:              "Make a bundle of records that others can check, or check one",
		DisableFlagParsing: true,
		ValidArgsFunction: func(cmd *cobra.Command, before []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(before) > 0 && before[0] == "verify" {
				return verify(cmd, before[1:], typed)
			}
			words, directive := make(cmd, before, typed)
			if len(before) == 0 && strings.HasPrefix("verify", typed) {
				words = append(words, "verify")
			}
			return words, directive
		},
		RunE: func(cmd *cobra.Command, args []string) error { return p.coded(p.evidence(cmd.Context(), args)) },
	}, evidenceUsage)
}

// evidenceAsked is what the words of evidence ask.
type evidenceAsked struct {
	words *search.Options
	out   string
	asked api.Bundle
}

// where options are not among the words that a bundle has: the same question has the same answer wherever it
// is asked from.
var whereOptions = []string{"--store", "--api", "--server", "--tls-ca", "--tls-cert", "--tls-key"}

// parseEvidence reads the words.
func parseEvidence(args []string) (*evidenceAsked, error) {
	table := evidenceOptions()
	args = table.SplitEquals(args)
	a := &evidenceAsked{asked: api.Bundle{Words: []string{}}}
	rest := []string{"--raw"} // search wants some word
	for i := 0; i < len(args); i++ {
		o := table.Find(args[i])
		if o == nil {
			if s := search.OptionTable().Find(args[i]); s != nil {
				return nil, fmt.Errorf("%s says how search prints, or where it looks: leave it out, a bundle has the records as they came", args[i])
			}
			return nil, fmt.Errorf("%.200q is no option of evidence%s", args[i], nearest.Hint(args[i], table.Names()))
		}
		long := o.Names[len(o.Names)-1]
		if long == "--out" || long == "--at-checkpoint" {
			if i++; i == len(args) || args[i] == "" {
				return nil, fmt.Errorf("%s: a value is wanted", long)
			}
			if long == "--out" {
				a.out = args[i]
				continue
			}
			b, err := fsys.ReadRegular(args[i], checkpoint.MaxBytes)
			if err != nil {
				return nil, fmt.Errorf("--at-checkpoint: %w", err)
			}
			if _, err := checkpoint.Parse(b); err != nil {
				return nil, fmt.Errorf("--at-checkpoint %s: %w", args[i], err)
			}
			a.asked.Checkpoint = b
			continue
		}
		from := len(rest)
		n := withValues(o, args[i:])
		rest = append(rest, args[i:i+n]...)
		i += n - 1
		if !slices.Contains(whereOptions, long) {
			a.asked.Words = append(a.asked.Words, rest[from:]...)
		}
	}
	var err error
	if a.words, err = render.ParseSearch(rest, false); err != nil {
		return nil, err
	}
	if a.words.Query.StartMs != 0 || a.words.Query.EndMs != 0 { // else a bundle is the same wherever it is asked for
		a.asked.Zone = zoneName()
	}
	if a.out == "" && !a.words.Help {
		return nil, errors.New("--out DIR is wanted: where the bundle goes")
	}
	return a, (&lookedIn{extra: a.words.Extra}).onePlace()
}

// zoneName names the zone in which times of the words are read, in the same words at any time of the year: a bundle is
// the same whenever it is made.
func zoneName() string {
	if name := time.Local.String(); name != "Local" && name != "" {
		return name
	}
	if at, err := os.Readlink("/etc/localtime"); err == nil {
		if _, name, ok := strings.Cut(at, "zoneinfo/"); ok {
			return name
		}
	}
	_, offset := time.Date(time.Now().Year(), 1, 1, 0, 0, 0, 0, time.Local).Zone()
	return fmt.Sprintf("UTC%+03d:%02d on January 1", offset/3600, max(offset, -offset)%3600/60)
}

// evidence runs `collector evidence`.
func (p *program) evidence(ctx context.Context, args []string) int {
	if len(args) > 0 && args[0] == "verify" {
		return p.evidenceVerify(args[1:])
	}
	if len(args) == 0 {
		fmt.Fprint(p.stdio.Err, evidenceUsage)
		return exitNotChecked
	}
	a, err := parseEvidence(args)
	switch {
	case err != nil:
		fmt.Fprintf(p.stdio.Err, "evidence: %v\n%s", err, command.Try("collector evidence"))
		return exitNotChecked
	case a.words.Help:
		fmt.Fprint(p.stdio.Out, evidenceUsage)
		return 0
	}
	for _, note := range a.words.Notes {
		fmt.Fprintln(p.stdio.Err, note)
	}
	if err := p.makeEvidence(ctx, a); err != nil {
		fmt.Fprintf(p.stdio.Err, "evidence: %v\n", err)
		return exitNotChecked
	}
	rep, err := evidence.Look(a.out)
	if err != nil {
		fmt.Fprintf(p.stdio.Err, "evidence: %v\n", err)
		return exitNotChecked
	}
	q := &rep.Query
	fmt.Fprintf(p.stdio.Out, "%s: %d events, %d records, of %d hosts; %d events are proved\n", a.out, q.Events, q.Records, len(q.Hosts), q.Proved)
	if rep.Pieces > 0 {
		fmt.Fprintf(p.stdio.Err, "evidence: its file %s shows what was stored beside these events, of other hosts too: %s there says how far\n", evidence.Pieces, evidence.Readme)
	}
	if q.Unproved > 0 {
		fmt.Fprintf(p.stdio.Err, "evidence: %d events are not proved by the log: %s\n", q.Unproved, terminal.Clean(q.Why))
	}
	if q.LeftOut > 0 {
		fmt.Fprintf(p.stdio.Err, "evidence: %d events are left out: they are in the journal only; start the collector, which stores them\n", q.LeftOut)
	}
	if q.Missing != "" {
		fmt.Fprintf(p.stdio.Err, "evidence: what the bundle lacks: %s\n", terminal.Clean(q.Missing))
	}
	if !rep.Signed {
		fmt.Fprintln(p.stdio.Err, "evidence: the bundle is not signed: there is no key (collector seal init), or no collector runs that has it")
	}
	switch {
	case evidence.Tampered(q):
		return exitTampered
	case q.Events == 0:
		return exitBundleNone
	}
	return 0
}

// evidenceCoverage writes the coverage of a bundle.
func evidenceCoverage(list []*fleet.Coverage) []byte { return coverageJSON(list, true) }

// evidenceSource makes bundles.
type evidenceSource interface {
	Evidence(ctx context.Context, q *query.Query, a api.Bundle, fn func(file string, piece []byte) error) error
}

// makeEvidence has the bundle made and puts it into its folder.
func (p *program) makeEvidence(ctx context.Context, a *evidenceAsked) (err error) {
	src, err := whereOf(a.words.Extra).open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if files, ok := src.(*server.ReadOnly); ok {
		files.Version, files.CoverageJSON = p.version, evidenceCoverage
	}
	maker, ok := src.(evidenceSource)
	if !ok {
		return errors.New("no bundle can be made there")
	}
	folder, err := evidence.NewFolder(a.out)
	if err != nil {
		return err
	}
	m := newMeter(p.stdio.Err, "evidence")
	var done int64
	err = maker.Evidence(ctx, &a.words.Query, a.asked, func(file string, piece []byte) error {
		done += int64(len(piece))
		m.show(done, 0)
		return folder.Take(file, piece)
	})
	m.end()
	if err != nil {
		if fsys.NoRoom(err) {
			err = fmt.Errorf("%w: no room for the bundle: give an --out on a larger disk, or ask for less", err)
		}
		return errors.Join(err, folder.Discard())
	}
	return folder.Finish()
}

// evidenceVerify runs `collector evidence verify`.
func (p *program) evidenceVerify(args []string) int {
	dir, key := "", ""
	args = evidenceVerifyOptions().SplitEquals(args)
	wrong := func(err error) int {
		fmt.Fprintf(p.stdio.Err, "evidence verify: %v\n%s", err, command.Try("collector evidence"))
		return exitNotChecked
	}
	for i := 0; i < len(args); i++ {
		switch w := args[i]; {
		case w == "-h" || w == "--help":
			fmt.Fprint(p.stdio.Out, evidenceUsage)
			return 0
		case w == "--key" && i+1 < len(args) && key == "":
			i++
			key = args[i]
		case w == "--key":
			return wrong(errors.New("--key: one key, or one file with keys, is wanted"))
		case strings.HasPrefix(w, "-"):
			return wrong(fmt.Errorf("%.200q is no option of evidence verify", w))
		case dir != "":
			return wrong(fmt.Errorf("%.200q: one bundle at a time", w))
		default:
			dir = w
		}
	}
	if dir == "" || key == "" {
		return wrong(errors.New("the bundle's folder and --key are wanted: the collector's public key, from somebody you trust, not from the bundle"))
	}
	keys, err := seal.ReadVerifiers(key)
	if err != nil {
		return wrong(fmt.Errorf("--key: %w", err))
	}
	rep, err := evidence.Verify(dir, keys)
	return p.saidOf(dir, rep, err)
}

// saidOf writes what a verification found, and returns the exit code.
func (p *program) saidOf(dir string, rep *evidence.Report, err error) int {
	out, errs := p.stdio.Out, p.stdio.Err
	switch {
	case errors.Is(err, evidence.ErrChanged):
		fmt.Fprintf(errs, "evidence verify: %s: %s\n", dir, terminal.Clean(err.Error()))
		return exitChanged
	case err != nil:
		fmt.Fprintf(errs, "evidence verify: %s\n", terminal.Clean(err.Error()))
		return exitNotChecked
	}
	for _, name := range rep.Others {
		fmt.Fprintf(errs, "evidence verify: %s is none of the bundle's files: nothing is said of it\n", terminal.Clean(name))
	}
	q := &rep.Query
	fmt.Fprintf(out, "store %s, collector %s\n", q.Store, terminal.Clean(q.Collector))
	fmt.Fprintf(out, "asked: %s\n", terminal.Clean(strings.Join(q.Words, " ")))
	fmt.Fprintf(out, "%d events, %d records, of %d hosts\n", q.Events, q.Records, len(q.Hosts))
	if rep.SignedBy != "" {
		fmt.Fprintf(out, "the bundle is as %s made and signed it\n", rep.SignedBy)
	}
	if rep.Checkpoint.Store != "" {
		fmt.Fprintf(out, "%d events stood in its log at the checkpoint of %s (%d leaves)\n", rep.Proved, rep.Checkpoint.Time.Format(time.RFC3339), rep.Checkpoint.Size)
	}
	if rep.Compacted > 0 {
		fmt.Fprintf(out, "%d of these as compaction wrote them again, and their batches before: that their text is what was stored then is the collector's word, which it has signed\n", rep.Compacted)
	}
	code := 0
	if rep.Unproved > 0 {
		fmt.Fprintf(errs, "evidence verify: %d events are not proved by the log: %s\n", rep.Unproved, terminal.Clean(q.Why))
		code = exitNotChecked
	}
	if rep.SignedBy == "" {
		fmt.Fprintln(errs, "evidence verify: the bundle is not signed: that nothing was taken out of it, and its coverage, are nobody's word")
		code = exitNotChecked
	}
	if q.Missing != "" {
		fmt.Fprintf(errs, "evidence verify: what the bundle lacks, as its maker says: %s\n", terminal.Clean(q.Missing))
	}
	if q.LeftOut > 0 {
		fmt.Fprintf(errs, "evidence verify: %d events that matched were left out: they were not stored yet\n", q.LeftOut)
	}
	if code == 0 {
		fmt.Fprintln(out, "good")
	}
	return code
}
