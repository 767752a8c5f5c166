package last

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// Stdio holds the streams of a command.
type Stdio struct {
	In       *os.File
	Out, Err io.Writer

	noRootNote bool // aulastlog says nothing of root
}

// CodeError is the exit code of an error under our names; under the stock tools' it is 1.
const CodeError = 2

// Failed returns the exit code of an error.
func (o *Options) Failed() int { return failed(o.Stock) }

func failed(stock bool) int {
	if stock {
		return 1
	}
	return CodeError
}

// Records passes the records of one of types to fn, with the host that each is of. A record
// is valid during the call only.
type Records func(ctx context.Context, types []uint32, fn func(node []byte, r *record.Record) error) error

// Of returns the records of a source that a query's times and hosts select.
func Of(src query.Source, q *query.Query) Records {
	return func(ctx context.Context, types []uint32, fn func([]byte, *record.Record) error) error {
		typed := *q
		typed.Types = types
		return src.Scan(ctx, &typed, func(ev *event.Event) error {
			for i := range ev.Records {
				if r := &ev.Records[i]; slices.Contains(types, uint32(r.Type)) {
					if err := fn(ev.Node, r); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
}

// Place is the log that a command line names.
type Place struct {
	File    string // -f
	HasFile bool
	Stdin   bool   // --stdin
	Local   string // the path of the local log, which it is without the two
}

// Open opens the logs. An error is what the stock tools say behind "Error - ".
func (p Place) Open(std Stdio) (Records, io.Closer, error) {
	in := logscan.Input{Path: p.File, Logs: true, LogFile: p.Local, Stdin: p.Stdin, In: std.In, Notes: std.Err}
	if !p.Stdin {
		if err := p.check(std); err != nil {
			return nil, nil, err
		}
	}
	logs, err := in.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	return func(ctx context.Context, types []uint32, fn func([]byte, *record.Record) error) error {
		return logs.Records(ctx, func(r *record.Record) error {
			if !slices.Contains(types, uint32(r.Type)) {
				return nil
			}
			return fn(r.Node, r)
		})
	}, closer{logs}, nil
}

type closer struct{ logs *logscan.Logs }

func (c closer) Close() error {
	c.logs.Close()
	return nil
}

func (p Place) check(std Stdio) error {
	look := p.File
	if !p.HasFile {
		if os.Getuid() != 0 && !std.noRootNote {
			fmt.Fprintln(std.Err, "You probably need to be root for this to work")
		}
		look = cmp.Or(p.Local, logscan.DefaultLog)
	}
	if err := unix.Access(look, unix.R_OK); err != nil {
		if !p.HasFile {
			fmt.Fprintln(std.Err, "No log file")
		}
		return sentence(err)
	}
	return nil
}

// sentence returns an error of the system as the C library words it.
func sentence(err error) error {
	text := fsys.Cause(err).Error()
	if text != "" && text[0] >= 'a' && text[0] <= 'z' {
		text = string(text[0]-'a'+'A') + text[1:]
	}
	return errors.New(text)
}

// RunFiles lists the logins of -f, of standard input, or of the local log, and returns the
// exit code.
func RunFiles(ctx context.Context, o *Options, loc *time.Location, local string, std Stdio) int {
	records, logs, err := Place{o.Input, o.HasInput, o.Stdin, local}.Open(std)
	if err != nil {
		fmt.Fprintf(std.Err, "Error - %v\n", err)
		return o.Failed()
	}
	defer logs.Close()
	return Run(ctx, o, loc, records, std)
}

// Run lists the logins of some records and returns the exit code, which is the stock
// tool's: 0 whether there are any or not, Options.Failed for an error.
func Run(ctx context.Context, o *Options, loc *time.Location, records Records, std Stdio) int {
	out := bufio.NewWriter(std.Out)
	err := run(ctx, o, loc, records, out, std.Err)
	if err = errors.Join(err, out.Flush()); err != nil {
		fmt.Fprintln(std.Err, err)
		return o.Failed()
	}
	return 0
}

func run(ctx context.Context, o *Options, loc *time.Location, records Records, out, errs io.Writer) (err error) {
	if o.Names == nil {
		names := nss.New(nss.Config{})
		defer names.Close()
		o.Names = names
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Extract {
		used, failed := newExtract()
		if failed != nil {
			return failed
		}
		o.records = used
		defer func() { err = errors.Join(err, used.close()) }()
	}
	s := NewSessions(o, loc, out, errs)
	return errors.Join(records(ctx, types, s.Record), s.Close())
}
