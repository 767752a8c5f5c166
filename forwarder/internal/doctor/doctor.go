// Package doctor checks whether a host makes, receives and ships audit records, and
// reports what is wrong and what to do about it, without changing anything. It reads
// files below a root, asks the kernel through a connection and the network through two
// functions, so that tests can make broken hosts. Only the forwarder's command line
// imports it.
package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/conf"
)

// State is what a check found.
type State string

const (
	OK      State = "ok"
	Warn    State = "warn"
	Fail    State = "fail"
	Unknown State = "unknown" // it could not be checked
)

// Finding is the result of a check. Its fields keep their names and meanings, as programs
// read them (WriteJSON).
type Finding struct {
	Check  string `json:"check"`
	State  State  `json:"state"`
	Weight int    `json:"weight"` // the heaviest first; 0 for what is right
	What   string `json:"what"`
	Fix    string `json:"fix,omitempty"`
}

// Host describes the host to examine. All its functions are required but Acknowledged and Witness.
type Host struct {
	Root    string // "" is this machine's
	Dial    func() (*kernel.Conn, error)
	Connect func(ctx context.Context, address string) error
	Lookup  func(ctx context.Context, name string) ([]string, error)
	Clock   func() (synchronised bool, err error)
	Space   func(path string) (free, total uint64, err error)
	Name    func() (string, error) // the host's own
	Now     func() time.Time
	// Acknowledged says for people who has acknowledged what, the latest first, by the folder
	// of the spool; nil: that is not looked at.
	Acknowledged func(dir string) ([]string, error)
	// Witness says for people what collectors have signed, and what was found about them that nobody
	// has accepted, by the folder of the spool; nil: that is not looked at.
	Witness func(dir string) (held, wrong []string, err error)

	// Paths below Root.
	Config, RemoteConfig, RulesDir, Spool, Note string
	SpoolSize                                   int64    // its bound
	Remote                                      []string // HOST:PORT; none: those of RemoteConfig
}

// exam is one examination.
type exam struct {
	Host
	ctx      context.Context
	findings []Finding
	status   *kernel.Status // nil: it could not be read
	conn     *kernel.Conn
	auditd   conf.Auditd
	unread   bool // auditd.conf is there and could not be read
}

// Examine makes every check and returns the findings, the most serious first, those that
// are in order last.
func Examine(ctx context.Context, h Host) []Finding {
	e := &exam{Host: h, ctx: ctx, auditd: conf.DefaultAuditd()}
	e.configuration()
	e.audit()
	if e.conn != nil {
		defer func() { _ = e.conn.Close() }() // it was only read
	}
	for _, check := range []func(){
		e.enabled, e.boot, e.backlog, e.daemon, e.rules, e.journald, e.clock, e.spool, e.acknowledged, e.witness, e.collectors, e.names, e.logSpace, e.permissions, e.unit,
	} {
		check()
	}
	slices.SortStableFunc(e.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Weight, a.Weight), cmp.Compare(rank(a.State), rank(b.State)))
	})
	return e.findings
}

func rank(s State) int { return slices.Index([]State{Fail, Warn, Unknown, OK}, s) }

func (e *exam) ok(check, format string, args ...any) {
	e.findings = append(e.findings, Finding{Check: check, State: OK, What: fmt.Sprintf(format, args...)})
}

func (e *exam) found(check string, s State, weight int, fix, format string, args ...any) {
	e.findings = append(e.findings, Finding{Check: check, State: s, Weight: weight, What: fmt.Sprintf(format, args...), Fix: fix})
}

// unknown says what could not be checked, and why.
func (e *exam) unknown(check string, err error) {
	fix := ""
	if errors.Is(err, fs.ErrPermission) {
		fix = "run it as root"
	}
	e.found(check, Unknown, 1, fix, "not checked: %s", e.below(err))
}

func (e *exam) path(p string) string { return filepath.Join(e.Root, p) }

func (e *exam) read(p string) ([]byte, error) { return os.ReadFile(e.path(p)) }

// Exit codes of the command.
const (
	ExitOK    = 0
	ExitWarn  = 1 // something is to be warned of, and nothing is at fault
	ExitFault = 3 // 2 is a wrong command line
)

// ExitCode returns the exit code for the findings. A check that could not be made does not
// count as a fault.
func ExitCode(list []Finding) int {
	code := ExitOK
	for _, f := range list {
		switch f.State {
		case Fail:
			return ExitFault
		case Warn:
			code = ExitWarn
		case OK, Unknown:
		}
	}
	return code
}

// WriteText writes a line for each fault, with its fix below it, then the checks that could
// not be made. It counts the findings that are in order; with all it lists them.
func WriteText(w io.Writer, list []Finding, all bool) error {
	counts := map[State]int{}
	for _, f := range list {
		counts[f.State]++
		if f.State == OK && !all {
			continue
		}
		what := strings.ReplaceAll(f.What, "\n", "\n        ")
		if _, err := fmt.Fprintf(w, "%-7s %s: %s\n", f.State, f.Check, what); err != nil {
			return err
		}
		if f.Fix != "" {
			if _, err := fmt.Fprintf(w, "        fix: %s\n", f.Fix); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(w, "%d at fault, %d to be warned of, %d right, %d not checked\n", counts[Fail], counts[Warn], counts[OK], counts[Unknown])
	return err
}

// WriteJSON writes the findings as a JSON array.
func WriteJSON(w io.Writer, list []Finding) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(list)
}

// permission makes the kernel's refusal one of the filesystem's kind.
func permission(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: reading the kernel's audit needs CAP_AUDIT_CONTROL", fs.ErrPermission)
	}
	return err
}
