package cli

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Bounds of what completion of values asks a collector for. A key pressed must not wait, and
// must not make a collector of a large fleet count all that it has.
const (
	offerTime    = time.Second // from the key pressed to the words
	offerBatches = 64          // how many of the latest batches are looked at
	offerWords   = 300         // the most frequent
)

// storeValues are the options of search and report whose values are offered as the events
// of a running collector have them, and the fields where these are.
var storeValues = map[string][]query.Field{
	"--key":           {query.FieldKey},
	"--executable":    {query.FieldExe},
	"--loginuid":      {query.FieldAUIDName, query.FieldAUID},
	"--uid":           {query.FieldUIDName, query.FieldUID},
	"--uid-effective": {query.FieldEUIDName, query.FieldEUID},
	"--uid-all":       {query.FieldAUIDName, query.FieldUIDName, query.FieldEUIDName, query.FieldAUID, query.FieldUID, query.FieldEUID},
}

// unsetID is an id that was never set: nobody's.
var unsetID = strconv.FormatUint(query.UnsetID, 10)

// fromStore returns the table with completions from a running collector: for the options of
// storeValues, and for hosts.
func fromStore(table option.Table) option.Table {
	table = slices.Clone(table)
	for i := range table {
		o := &table[i]
		long := o.Names[len(o.Names)-1]
		fields, known := storeValues[long]
		switch {
		case o.Value == "":
			continue
		case long == "--node":
			o.Words = option.Words{Comma: o.Words.Comma, List: offeredHosts}
		case known:
			also := o.Words.List // the accounts of this machine
			o.Words = option.Words{Files: o.Words.Files, List: func(before []string, typed string) []string {
				words := offeredValues(before, typed, fields)
				if also != nil {
					for _, word := range also(before, typed) {
						if !slices.Contains(words, word) {
							words = append(words, word)
						}
					}
				}
				return words
			}}
		}
	}
	return table
}

// completeHosts offers the hosts that a collector knows.
func completeHosts(cmd *cobra.Command, before []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completion.Answer(option.Found{Words: beginning(offeredHosts(toldWhere(cmd, before), typed), typed)})
}

// toldWhere adds to the words before the options that say which collector is asked.
func toldWhere(cmd *cobra.Command, before []string) []string {
	for _, name := range []string{"store", "api"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			before = append(slices.Clone(before), "--"+name, f.Value.String())
		}
	}
	return before
}

func beginning(words []string, typed string) []string {
	return slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, typed) })
}

// askFor asks the collector that the words before name, and nobody where none runs: files are
// not opened for it.
func askFor(before []string, fn func(ctx context.Context, c *api.Client) error) {
	ctx, cancel := context.WithTimeout(context.Background(), offerTime)
	defer cancel()
	w := where{}
	before = render.Options.SplitEquals(before)
	for i, word := range before[:max(0, len(before)-1)] {
		switch word {
		case "--store":
			w.store = before[i+1]
		case "--api":
			w.api = before[i+1]
		}
	}
	if w.api == "" {
		w.api = filepath.Join(cmp.Or(w.store, server.DefaultStore), server.APISocket)
	}
	c, err := api.Dial(ctx, w.api)
	if err != nil {
		return // nothing is offered, and a complaint would spoil the line
	}
	_ = fn(ctx, c)
	_ = c.Close()
}

// offeredHosts are the names of hosts.
func offeredHosts(before []string, typed string) (words []string) {
	typed = typed[strings.LastIndexByte(typed, ',')+1:]
	askFor(before, func(ctx context.Context, c *api.Client) error {
		hosts, err := c.Hosts(ctx)
		for _, h := range hosts {
			if name := string(h.GetName()); offerable(name, typed) && len(words) < offerWords {
				words = append(words, name)
			}
		}
		return err
	})
	return words
}

// offeredValues are the values of fields in the latest batches, the most frequent ones.
func offeredValues(before []string, typed string, fields []query.Field) (words []string) {
	counts := map[string]int64{}
	askFor(before, func(ctx context.Context, c *api.Client) error {
		about, err := c.About(ctx)
		if err != nil {
			return err
		}
		q := &query.Query{}
		if about.Batch > offerBatches {
			q.AfterBatch = about.Batch - offerBatches
		}
		add := func(v string, n int64) {
			if offerable(v, typed) && v != unsetID {
				counts[v] += n
			}
		}
		var x query.Extractor
		sum, err := c.Tally(ctx, q, fields, func(ev *event.Event) error {
			x.Extract(ev, func(f query.Field, v []byte) {
				if slices.Contains(fields, f) {
					add(string(v), 1)
				}
			})
			return nil
		})
		if err != nil {
			clear(counts) // of a part of the events
			return err
		}
		for _, f := range fields {
			sum.Of(f).Each(add)
		}
		return nil
	})
	for v := range counts {
		words = append(words, v)
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b)) })
	return words[:min(len(words), offerWords)]
}

// offerable says whether a value that begins as typed can be a word of a command line as it
// stands. Anybody who may run a program on a host chooses such values, and bash expands what
// it is offered: a value with a character that means something to a shell is left out.
func offerable(v, typed string) bool {
	if v == "" || len(v) > 255 || !strings.HasPrefix(v, typed) || v[0] == '-' || v[0] == '=' {
		return false
	}
	for _, r := range v {
		switch {
		case r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_./-+@:", r)):
		case r >= 0x80 && r != unicode.ReplacementChar && (unicode.IsLetter(r) || unicode.IsDigit(r)):
		default:
			return false
		}
	}
	return true
}
