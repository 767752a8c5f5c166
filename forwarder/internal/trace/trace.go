package trace

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// ErrRulesLoaded is returned when rules are loaded and Config.Force is not set.
var ErrRulesLoaded = errors.New("rules are loaded")

// ErrLocked is returned when the rules are locked until the next boot.
var ErrLocked = errors.New("the rules are locked until this machine boots again")

// Config says what to trace. The caller opens Conn, and closes it after Run.
type Config struct {
	Conn     *kernel.Conn
	Path     string   // of the program
	Args     []string // its arguments, its own name first
	Resource bool     // only calls that concern files, connections and programs
	Force    bool     // also when rules are loaded: those of the trace come first
	// Events, if set, gets the program's events and those of all its children as
	// they happen, in a goroutine of the trace's. Audit is switched on for it.
	Events func(*event.Event)
	// Started, if set, hears of the program's process before it runs.
	Started func(pid int)
	// Enabled, if set, hears that audit was off and is switched on now.
	Enabled func()

	Stdin          io.Reader
	Stdout, Stderr io.Writer

	openKernel func(kernel.Config) (*kernel.Listener, error) // for tests; nil: kernel.Open
}

// Result describes a trace that was carried out.
type Result struct {
	PID     int
	Session *uint32 // the program's audit session, where it got one
	// Unfollowed says why children of children are not in the events.
	Unfollowed error
	Enabled    bool              // audit was on
	State      *os.ProcessState  // how the program ended
	Signal     os.Signal         // what interrupted the trace, nil when nothing did
	Lost       map[string]uint64 // records that were lost, by cause, those of other programs included
}

// Run traces one program until it ends. When Run returns, with an error or without, the
// trace's rules are deleted.
func Run(ctx context.Context, cfg Config) (_ *Result, err error) {
	status, err := cfg.Conn.Status()
	if err != nil {
		return nil, err
	}
	loaded, err := cfg.Conn.Rules()
	if err != nil {
		return nil, err
	}
	switch {
	case status.Enabled == 2:
		return nil, ErrLocked
	case len(loaded) > 0 && !cfg.Force:
		return nil, ErrRulesLoaded
	}
	// From here on signals do not end this process: rules must be deleted first.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)

	t := &tracing{cfg: cfg, result: &Result{Enabled: status.Enabled == 1}}
	defer func() { err = errors.Join(err, t.close()) }()
	if cfg.Events != nil {
		if err := t.listen(status); err != nil {
			return nil, err
		}
	}
	if err := t.enable(status); err != nil {
		return nil, err
	}
	if err := t.start(); err != nil {
		return nil, err
	}
	if err := t.arm(); err != nil {
		return nil, err
	}
	if cfg.Started != nil {
		cfg.Started(t.result.PID)
	}
	if err := t.let(); err != nil {
		return nil, err
	}
	t.wait(ctx, signals)
	return t.result, nil
}

// tracing is the state of one trace.
type tracing struct {
	cfg     Config
	result  *Result
	cmd     *exec.Cmd
	waited  bool
	goPipe  *os.File
	todo    *duties // to put right in the end
	guard   *guarding
	watcher *watcher
}

// start makes the child, which waits.
func (t *tracing) start() error {
	goRead, goWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	defer goRead.Close()
	t.goPipe = goWrite
	readyRead, readyWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	defer readyRead.Close()
	mode := ""
	if t.cfg.Events != nil {
		mode = "session"
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{childName, mode, t.cfg.Path}, t.cfg.Args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.cfg.Stdin, t.cfg.Stdout, t.cfg.Stderr
	cmd.ExtraFiles = []*os.File{goRead, readyWrite}
	err = cmd.Start()
	readyWrite.Close()
	if err != nil {
		return fmt.Errorf("start the program: %w", err)
	}
	t.cmd, t.result.PID = cmd, cmd.Process.Pid
	line, err := bufio.NewReader(readyRead).ReadString('\n')
	if err != nil {
		return fmt.Errorf("start the program: %w", err)
	}
	line = strings.TrimSpace(line)
	if why, failed := strings.CutPrefix(line, "no "); failed {
		t.result.Unfollowed = errors.New(why)
	} else if line != "" {
		n, err := strconv.ParseUint(line, 10, 32)
		if err != nil {
			return fmt.Errorf("start the program: session %q", line)
		}
		session := uint32(n)
		t.result.Session = &session
	}
	return nil
}

// enable switches audit on where the events are wanted and it is off. The child is
// made after that: the kernel gives a process what its records are kept in when it is
// made, and only once audit was on. The guard knows before the kernel does.
func (t *tracing) enable(status kernel.Status) (err error) {
	d := duties{Enable: t.cfg.Events != nil && status.Enabled == 0}
	if t.guard, err = startGuard(d); err != nil {
		return err
	}
	t.todo = &d
	if !d.Enable {
		return nil
	}
	if err := t.cfg.Conn.Set(kernel.Status{Mask: kernel.MaskEnabled, Enabled: 1}); err != nil {
		return fmt.Errorf("switch audit on: %w", err)
	}
	if t.cfg.Enabled != nil {
		t.cfg.Enabled()
	}
	return nil
}

// arm loads the rules. The guard knows of them before the kernel does.
func (t *tracing) arm() error {
	list := ruleSet(t.result.PID, t.result.Session, t.cfg.Resource, t.cfg.Force)
	deletions, err := deleting(list)
	if err != nil {
		return err
	}
	t.todo.Rules = deletions
	if err := t.guard.tell(*t.todo); err != nil {
		return err
	}
	if t.watcher != nil {
		t.watcher.follow(t.result.PID, t.result.Session)
	}
	return load(t.cfg.Conn, list)
}

// let lets the child become the program.
func (t *tracing) let() error {
	if _, err := t.goPipe.Write([]byte{1}); err != nil {
		return fmt.Errorf("start the program: %w", err)
	}
	return t.goPipe.Close()
}

// wait waits for the program. Signals are handed on to it, also when it is stopped; the
// second one, or the end of ctx, kills it.
func (t *tracing) wait(ctx context.Context, signals <-chan os.Signal) {
	ended := make(chan struct{})
	go func() {
		_ = t.cmd.Wait() // how it ended is in ProcessState
		close(ended)
	}()
	done := ctx.Done()
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	defer signal.Stop(children)
	t.followStop() // it may have stopped before
	for {
		select {
		case <-children:
			t.followStop()
		case <-ended:
			t.waited, t.result.State = true, t.cmd.ProcessState
			return
		case s := <-signals:
			if t.result.Signal != nil {
				s = os.Kill
			} else {
				t.result.Signal = s
			}
			_ = t.cmd.Process.Signal(s) // an error: it has just ended
			_ = t.cmd.Process.Signal(unix.SIGCONT)
		case <-done:
			done = nil
			_ = t.cmd.Process.Kill() // an error: it has just ended
		}
	}
}

// close puts everything right.
func (t *tracing) close() error {
	var errs []error
	if t.cmd != nil && !t.waited {
		t.goPipe.Close()         // a child that waits ends then
		_ = t.cmd.Process.Kill() // an error: it has just ended
		_ = t.cmd.Wait()
	}
	if t.todo != nil {
		rules := duties{Rules: t.todo.Rules}
		if t.watcher != nil {
			t.watcher.ending.Store(time.Now().UnixMilli())
		}
		if err := rules.carryOut(t.cfg.Conn); err != nil {
			errs = append(errs, fmt.Errorf("delete the trace's rules: %w", err))
		}
	}
	if t.watcher != nil {
		lost, err := t.watcher.finish(t.todo != nil && len(t.todo.Rules) > 0)
		t.result.Lost = lost
		if err != nil {
			errs = append(errs, err)
		}
	}
	if t.todo != nil && t.todo.Enable {
		off := duties{Enable: true}
		if err := off.carryOut(t.cfg.Conn); err != nil {
			errs = append(errs, fmt.Errorf("switch audit off again: %w", err))
		}
	}
	if t.guard != nil {
		t.guard.dismiss()
	}
	return errors.Join(errs...)
}
