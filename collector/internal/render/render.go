// Package render carries out the words of `collector search` and `collector report` with a
// collector as the source, and writes what these commands print. The command line and the
// query API both use it, so both print the same bytes. The collector's server and command
// line may import it.
package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// Options are those of both commands that the stock tools have not, for a fleet.
var Options = option.Table{
	{Names: []string{"--store"}, Value: "DIR", Brief: "the collector's store", Equals: true, Words: option.Folders},
	{Names: []string{"--api"}, Value: "SOCKET", Brief: "the query socket of a running collector", Equals: true, Words: option.Files},
	{Names: []string{"--server"}, Value: "HOST:PORT", Brief: "a collector on another machine, by its gRPC port", Equals: true},
	{Names: []string{"--also"}, Value: "HOST:PORT", Brief: "collectors that are asked as well, by their gRPC ports; none: not those of client.conf", Equals: true, Words: option.Words{Comma: true}},
	{Names: []string{"--also-wait"}, Value: "TIME", Brief: "how long each of several collectors may answer nothing", Equals: true},
	{Names: []string{"--tls-ca"}, Value: "FILE", Brief: "by which CAs it is known", Equals: true, Words: option.Files},
	{Names: []string{"--tls-cert"}, Value: "FILE", Brief: "the certificate of who asks", Equals: true, Words: option.Files},
	{Names: []string{"--tls-key"}, Value: "FILE", Brief: "its key", Equals: true, Words: option.Files},
	{Names: []string{noCoverageNote}, Brief: "do not say that trails are not complete in that time"},
	{Names: []string{coverageObject}, Brief: "with --format json: a last object that says whether trails are complete"},
	{Names: []string{"--mismatch"}, Brief: "only what claims to be another host's"},
	{Names: []string{"--from"}, Value: "ADDRESS[/BITS]", Brief: "only what was received from there", Equals: true},
}

// ParseSearch reads the words of search. stock says that they are for the stock name:
// then only users and groups of this machine may be named.
func ParseSearch(words []string, stock bool) (*search.Options, error) {
	o, err := search.ParseArgs(Options.SplitEquals(words), search.Env{Strangers: !stock, Stock: stock, Extra: Options.Valued()})
	if err == nil && !stock {
		o.ErrorCode = search.CodeError
	}
	if err == nil && !o.Help && !o.Version {
		o.Query.From, err = networks(o.Extra["--from"])
		_, o.Query.Mismatch = o.Extra["--mismatch"]
	}
	return o, err
}

// Search writes what is found to out, and complaints to errs, and returns the exit code,
// which is the stock tool's: 0 found, 1 nothing found, Options.Failed an error.
func Search(ctx context.Context, o *search.Options, src api.Source, out, errs io.Writer) int {
	coverage := SearchNote(ctx, o, src)
	found, err := find(ctx, o, src, out, errs)
	if bad := coverage.Say(ctx, out, errs); err == nil {
		err = bad
	}
	if err != nil {
		fmt.Fprintf(errs, "search: %v\n", err)
		return o.Failed()
	}
	if found == 0 && !o.Follow && o.ErrorCode != 0 {
		o.NoteIfNothing(notes(ctx, src, &o.Query)...)
	}
	return o.Exit(int(found), errs)
}

// SearchNote begins to find out whether the trails that a search looks at are complete; nil where
// that is not asked: of what is to come, and under the stock name.
func SearchNote(ctx context.Context, o *search.Options, src api.Source) *Note {
	if o.Follow {
		return nil
	}
	return beginNote(ctx, src, &o.Query, o.Extra, o.ErrorCode == 0, o.Format == output.FormatJSON && !o.Count)
}

// OfFleet has a search be one of a fleet's events: ids are named by the accounts of their
// own host, and warnings go to errs, as does a condition that the accounts of this
// machine had to resolve. Names that were handed in with the words stay.
func OfFleet(o *search.Options, errs io.Writer) {
	if o.Names == nil {
		o.Names = query.FleetNames()
	}
	o.Query.Fleet = true
	if o.Warn == nil {
		o.Warn = func(text string) { fmt.Fprintln(errs, text) }
	}
	for _, note := range o.LocalIDs {
		fmt.Fprintln(errs, note)
	}
}

func find(ctx context.Context, o *search.Options, src api.Source, out, errs io.Writer) (found uint64, err error) {
	OfFleet(o, errs)
	w := output.NewWriter(out, &o.Config, time.Local)
	found, err = search.Find(ctx, o, src, w, out, o.Warn)
	return found, errors.Join(err, w.Close())
}

// Text is an api.Command: `collector search`.
func Text(ctx context.Context, src api.Source, memory *query.Memory, words []string, out, errs io.Writer) (int, error) {
	o, err := ParseSearch(words, false)
	if err != nil {
		return complain(err, errs)
	}
	o.Query.Memory = memory
	here := append(o.Seen, seenOf(o.Extra)...)
	if o.CheckpointTime {
		here = append(here, "--checkpoint") // -ts checkpoint
	}
	if err := refuse(here); err != nil {
		return 1, err
	}
	o.Screen(false) // of none
	for _, note := range o.Notes {
		fmt.Fprintln(errs, note)
	}
	return Search(ctx, o, src, out, errs), nil
}

// complain is how a command ends whose words are wrong.
func complain(err error, errs io.Writer) (int, error) {
	if errors.Is(err, search.ErrNoOptions) {
		return 1, fmt.Errorf("%w: there are no words", api.ErrQuery)
	}
	fmt.Fprintln(errs, err)
	return search.CodeError, nil
}

// ofCommandLine are the options that make no sense from elsewhere, and why.
var ofCommandLine = map[string]string{
	"--input": "names a file", "--input-logs": "names a file", "--checkpoint": "names a file", "--store": "says where to look", "--api": "says where to look", "--server": "says where to look", "--also": "says where to look", "--also-wait": "says where to look",
	"--tls-ca": "says where to look", "--tls-cert": "says where to look", "--tls-key": "says where to look",
	"--color": "is about a terminal", "--no-pager": "is about a terminal",
	"--help": "asks for no events", "--version": "asks for no events",
}

// refuse says which of the options only a command line has.
func refuse(seen []string) error {
	for _, opt := range seen {
		if why, ok := ofCommandLine[opt]; ok {
			return fmt.Errorf("%w: %s %s: it is for the command line only", api.ErrQuery, opt, why)
		}
	}
	return nil
}

func seenOf(extra map[string][]string) (names []string) {
	for name := range extra {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// networks reads the values of --from, each an address or a network, several with
// commas between them.
func networks(values []string) (out []netip.Prefix, err error) {
	for _, v := range values {
		for one := range strings.SplitSeq(v, ",") {
			if p, err := netip.ParsePrefix(one); err == nil {
				out = append(out, p.Masked())
				continue
			}
			addr, err := netip.ParseAddr(one)
			if err != nil {
				return nil, fmt.Errorf("--from must be an address or a network such as 192.0.2.0/24, was %.80q", one)
			}
			addr = event.SenderAddr(addr)
			out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return out, nil
}
