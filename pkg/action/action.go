// Package action carries out the actions of auditd.conf when something is wrong: a
// message to syslog, a mail, a program, single-user mode, a halt. The caller itself
// carries out rotate and suspend. The wiring packages of both daemons may import it, and
// the parts that notice such conditions.
//
// Do never waits. The action that it starts runs at most once at a time for each
// condition and has a time limit; Close waits a moment for it, then ends and joins it.
package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/syslog"
)

// The programs that actions run. Stock auditd has sendmail at /usr/lib/sendmail,
// which is a link to this one where both are there.
const (
	Sendmail = "/usr/sbin/sendmail"
	Init     = "/sbin/init"
)

var (
	// ErrHalt is returned by Check for an action that ends all work on the machine
	// and was not allowed.
	ErrHalt = errors.New("the action ends all work on this machine")
	// ErrMail is returned by Check for a mail that nothing here can send.
	ErrMail = errors.New("mail cannot be sent")
)

// Config configures New.
type Config struct {
	Log    hclog.Logger
	Syslog func(p syslog.Priority, text []byte) error // nil: the host's
	// MailTo is action_mail_acct, Sendmail the program ("": the usual one).
	MailTo, Sendmail string
	Init             string // "": the usual one
	// AllowHalt lets single and halt be done.
	AllowHalt bool
	// Timeout bounds a mail or a program; 10 minutes when 0.
	Timeout time.Duration
}

// Runner carries out actions. Any goroutine may call its methods.
type Runner struct {
	cfg    Config
	sys    *syslog.Writer // nil when Config.Syslog is set
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	running map[string]bool // guarded by mu: conditions whose action runs
	closed  bool            // guarded by mu
}

// Message says what is wrong.
type Message struct {
	Condition string // the configuration's key, such as space_left_action
	Subject   string // of a mail
	Text      string // one line, for people
	Level     syslog.Priority
}

// New returns a Runner. The caller must Close it.
func New(cfg Config) *Runner {
	if cfg.Log == nil {
		cfg.Log = hclog.NewNullLogger()
	}
	if cfg.Sendmail == "" {
		cfg.Sendmail = Sendmail
	}
	if cfg.Init == "" {
		cfg.Init = Init
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Minute
	}
	if cfg.MailTo == "" {
		cfg.MailTo = "root"
	}
	r := &Runner{cfg: cfg, running: map[string]bool{}}
	if cfg.Syslog == nil {
		r.sys = syslog.New("", "auditfleet", time.Second)
		r.cfg.Syslog = func(p syslog.Priority, text []byte) error { return r.sys.Write(syslog.Daemon|p, text) }
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Check returns an error when the action a, configured for key, can't be carried out on
// this host; the caller calls it before the action is needed.
func (r *Runner) Check(key string, a conf.Action) error {
	switch a.Do {
	case conf.DoSingle, conf.DoHalt:
		if !r.cfg.AllowHalt {
			return fmt.Errorf("%s = %s: %w: allow it with --allow-halt, or choose another, such as suspend or syslog", key, a, ErrHalt)
		}
	case conf.DoEmail:
		if err := conf.Executable(r.cfg.Sendmail); err != nil {
			return fmt.Errorf("%s = email: %w: %w: install a mail transport agent, or choose another action", key, ErrMail, err)
		}
	}
	return nil
}

// Do starts the action a because of m, without waiting for its end. It only logs ignore,
// rotate and suspend.
func (r *Runner) Do(a conf.Action, m Message) {
	r.cfg.Log.Warn(m.Text, "action", a.String(), "key", m.Condition)
	switch a.Do {
	case conf.DoIgnore, "":
		return
	case conf.DoSingle, conf.DoHalt:
		if !r.cfg.AllowHalt {
			r.cfg.Log.Error("the action is not allowed", "action", a.String(), "key", m.Condition)
			return
		}
	}
	r.mu.Lock()
	busy := r.running[m.Condition] || r.closed
	if !busy {
		r.running[m.Condition] = true
		r.wg.Add(1)
	}
	r.mu.Unlock()
	if busy {
		r.cfg.Log.Warn("the action is not started: the last one still runs", "action", a.String(), "key", m.Condition)
		return
	}
	go func() {
		defer r.wg.Done()
		if err := r.perform(a, m); err != nil {
			r.cfg.Log.Error("the action failed", "action", a.String(), "key", m.Condition, "error", err)
		}
		r.mu.Lock()
		delete(r.running, m.Condition)
		r.mu.Unlock()
	}()
}

// perform tells syslog, as stock does for every action but ignore and exec, and
// then does what the action is named for.
func (r *Runner) perform(a conf.Action, m Message) error {
	var err error
	if a.Do != conf.DoExec {
		err = r.cfg.Syslog(m.Level, []byte(m.Text))
		if err != nil && a.Do != conf.DoSyslog { // the action itself is done all the same
			r.cfg.Log.Warn("syslog was not told of the action", "action", a.String(), "key", m.Condition, "error", err)
			err = nil
		}
	}
	switch a.Do {
	case conf.DoEmail:
		err = errors.Join(err, r.mail(m))
	case conf.DoExec:
		if err = conf.Executable(a.Exec); err == nil {
			err = r.run(nil, a.Exec)
		}
	case conf.DoSingle:
		err = errors.Join(err, r.run(nil, r.cfg.Init, "1"))
	case conf.DoHalt:
		err = errors.Join(err, r.run(nil, r.cfg.Init, "0"))
	}
	return err
}

func (r *Runner) mail(m Message) error {
	host, err := os.Hostname()
	if err != nil {
		host = "(unknown host)"
	}
	// Nothing of these comes from the network: the texts are ours, the address
	// was checked when it was read.
	text := fmt.Sprintf("To: %s\nFrom: root\nSubject: %s: %s\n\n%s\n", r.cfg.MailTo, host, m.Subject, m.Text)
	return r.run([]byte(text), r.cfg.Sendmail, "-t")
}

// run waits for a program, which has nothing of ours open and a clean
// environment.
func (r *Runner) run(in []byte, path string, args ...string) error {
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	if in != nil {
		cmd.Stdin = bytes.NewReader(in)
	}
	var out head
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Run(); err != nil {
		if said := strings.TrimSpace(string(out)); said != "" {
			return fmt.Errorf("run %s: %w: %s", path, err, said)
		}
		return fmt.Errorf("run %s: %w", path, err)
	}
	return nil
}

// head keeps the beginning of what a program says.
type head []byte

func (t *head) Write(p []byte) (int, error) {
	*t = append(*t, p[:min(len(p), 500-min(len(*t), 500))]...)
	return len(p), nil
}

// Syslog sends one message, without any action.
func (r *Runner) Syslog(p syslog.Priority, text string) {
	if err := r.cfg.Syslog(p, []byte(text)); err != nil {
		r.cfg.Log.Debug("syslog takes no message", "error", err)
	}
}

// closeGrace is for an action whose condition is what ends the program.
const closeGrace = 2 * time.Second

// Close waits a moment (closeGrace) for actions that run, then ends and joins them.
func (r *Runner) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	late := time.AfterFunc(closeGrace, r.cancel)
	r.wg.Wait()
	late.Stop()
	r.cancel()
	if r.sys != nil {
		return r.sys.Close()
	}
	return nil
}
