package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// The sources that are no file.
const (
	SourceKernel    = "kernel"
	SourceMulticast = "multicast"
	SourceStdin     = "stdin"
	SourceNone      = "(none)" // only what the spool holds is shipped
)

// Config is for Open.
type Config struct {
	Source    string // one of the above, or a file's path
	Follow    bool   // the file goes on, through rotation
	StateFile string // how far a followed file was read, or the kernel's serials were taken in; "": not kept
	// StateUnnamed is for a StateFile that nobody has named: what else stands in its place
	// is said, and left alone, and the kernel is read.
	StateUnnamed bool
	Stdin        *os.File

	Node  string          // "" for none
	Log   locallog.Config // no Path: no local log
	Spool spool.Options   // used with Ship
	// DropLines makes a full spool drop its oldest records also when the source
	// could wait.
	DropLines bool
	Ship      *ship.Config // nil: records stay on this host
	// Remote is what to do when shipping meets trouble.
	Remote RemoteActions

	Actions action.Config // for the local log and the plugins
	// Reload reads the configuration again; nil: it can't be.
	Reload func(ctx context.Context) (Changed, error)
	// Report is where the state report goes, "" for none; every ReportEvery, 0:
	// when asked for.
	Report      string
	ReportEvery time.Duration
	// Boot is where it is noted, for the present boot, when auditing was first on and what
	// the kernel had lost when that was last said; no path: nothing is.
	Boot boot.Notes
	// PIDFile is written once records can come in, and removed at the end; "": none.
	PIDFile string
	// PriorityBoost is auditd.conf's priority_boost: the niceness taken off.
	PriorityBoost int

	// Plugins are the programs of plugins.d, with the kernel's records; nil: none.
	Plugins *dispatch.Config
	// Enrich appends the enriched tail to a record of the kernel's; nil: records
	// stay raw.
	Enrich func(dst []byte, r *record.Record) []byte
	// Names is where Enrich has names from, to be counted and closed; nil: nowhere.
	Names *nss.System

	Kernel kernel.Config
	// OpenKernel opens the kernel source; nil: kernel.Open.
	OpenKernel func(kernel.Config) (*kernel.Listener, error)

	// Plugin: standard input is a dispatcher's that starts us again. At its end what is
	// spooled stays for the next start at once, and a spool that another process (the
	// instance before) has is waited for.
	Plugin bool

	DrainTimeout    time.Duration // at the end of the input, default 30 s
	ShutdownTimeout time.Duration // for shipping what is spooled when told to end, default 5 s

	HTTP    string // address for /metrics, "" for none
	Metrics *metrics.Registry

	Version string
	Logger  hclog.Logger
	Now     func() time.Time

	actionPause time.Duration // tests only: how long an action is not repeated
}

// ErrLeft is returned by Run when the input was read to its end, but not all of
// it acknowledged in time. The spool has the rest.
var ErrLeft = errors.New("not everything was acknowledged")

// Agent is a wired forwarder. Run is called once, then Close.
type Agent struct {
	cfg    Config
	kernel *kernel.Listener
	input  *os.File
	packed io.Reader    // what is compressed in input; nil: nothing
	damage func() error // of packed, once it is read
	from   position
	log    atomic.Pointer[locallog.Log] // changed by the pump
	spool  *spool.Spool
	reader *spool.Reader
	sender *ship.Sender
	own    *own
	pump   pump
	// serials is nil without a state file, or without the kernel.
	serials *serialFile

	plugins *dispatch.Dispatcher
	act     actions
	report  reporter
	boosted int

	web     web
	drained bool // all was acknowledged before the kernel was left; the pump's

	reloading sync.Mutex  // held by Reload
	cmds      chan func() // run by the pump
	over      chan struct{}

	shipMetrics ship.Metrics
	nameless    uint64 // records in a removed log, as last said; the pump's
	spoolMoved  uint64 // times the spool was removed or replaced, as last said; the pump's
	said        uint32 // the kernel's counter of lost records, as last noted; the pump's
	noted       bool   // it was
	unheard     string // why no record comes, as last logged; the pump's
	alone       bool   // in a network namespace that gets no multicast records
	badInput    atomic.Uint64
	gaps        atomic.Uint64
	policy      *policy    // nil: nothing is shipped
	announced   shipLosses // so far; the pump's
	pos         position
	saved       position
}

func (c *Config) defaults() {
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 30 * time.Second
	}
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = 5 * time.Second
	}
	if c.Source == "" {
		c.Source = SourceKernel
	}
	if c.Stdin == nil {
		c.Stdin = os.Stdin
	}
	if c.Metrics == nil {
		c.Metrics = metrics.New()
	}
	if c.OpenKernel == nil {
		c.OpenKernel = kernel.Open
	}
}

// fromKernel reports whether records come from the kernel: they can't wait.
func (c *Config) fromKernel() bool {
	return c.Source == SourceKernel || c.Source == SourceMulticast
}

// Open acquires everything: files first, the kernel's registration last.
func Open(cfg Config) (*Agent, error) { return OpenContext(context.Background(), cfg) }

// OpenContext is Open that waits no longer than a moment for anybody once ctx has
// ended. What a plugin's input holds is still taken in then: Run follows.
func OpenContext(ctx context.Context, cfg Config) (_ *Agent, err error) {
	cfg.defaults()
	a := &Agent{cfg: cfg, own: newOwn(cfg.Version, cfg.Now), cmds: make(chan func()), over: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	a.pump = pump{logger: cfg.Logger, now: cfg.Now}
	if cfg.fromKernel() {
		a.pump.enrich = cfg.Enrich
	}
	if cfg.Node != "" {
		if err := checkNode(cfg.Node); err != nil {
			return nil, err
		}
		a.pump.prefix = []byte("node=" + cfg.Node + " ")
	}
	if err := a.openInput(); err != nil {
		return nil, err
	}
	if cfg.HTTP != "" {
		if err := a.openHTTP(); err != nil {
			return nil, err
		}
	}
	a.report.setEvery(cfg.ReportEvery)
	a.boost(cfg.PriorityBoost) // before plugins are started: they inherit it
	if err := a.setActions(cfg.Actions); err != nil {
		return nil, err
	}
	if cfg.Log.Path != "" {
		l, err := locallog.Open(a.logConfig(cfg.Log))
		if err != nil {
			return nil, err
		}
		a.setLog(l)
	}
	if cfg.Ship != nil {
		if err := a.openShipping(ctx); err != nil {
			return nil, err
		}
	}
	if cfg.Plugins != nil && cfg.fromKernel() {
		pc := *cfg.Plugins
		a.completePlugins(&pc)
		if a.plugins, err = dispatch.Open(pc); err != nil {
			return nil, err
		}
		a.pump.plugins = a.plugins
	}
	if cfg.fromKernel() {
		kc := cfg.Kernel
		kc.Multicast = cfg.Source == SourceMulticast
		kc.Logger = cfg.Logger.Named("kernel")
		if kc.Last, err = a.openSerials(); err != nil {
			return nil, err
		}
		kc.Before = a.lossesBefore()
		if a.kernel, err = cfg.OpenKernel(kc); err != nil {
			a.recordAbort("set-pid")
			return nil, err
		}
		a.lookAtBoot()
		a.sayUnheard()
	}
	if err := a.writePID(); err != nil {
		return nil, err
	}
	a.register(cfg.Metrics)
	return a, nil
}

func (a *Agent) openInput() error {
	switch {
	case a.cfg.fromKernel(), a.cfg.Source == SourceNone:
		return nil
	case a.cfg.Source == SourceStdin:
		a.input = a.cfg.Stdin
		return nil
	}
	info, err := os.Stat(a.cfg.Source)
	if err != nil {
		return fmt.Errorf("--source: %w (it is one of kernel, multicast, stdin, or a file)", err)
	}
	if info.IsDir() {
		return fmt.Errorf("--source %s: is a folder", a.cfg.Source)
	}
	if a.cfg.Follow {
		if err := refusePacked(a.cfg.Source); err != nil {
			return err
		}
		if a.cfg.StateFile != "" {
			if a.from, err = loadState(a.cfg.StateFile); err != nil {
				return err
			}
			a.pos, a.saved = a.from, a.from
		}
		return nil
	}
	if a.input, err = os.Open(a.cfg.Source); err != nil {
		return fmt.Errorf("--source: %w", err)
	}
	return a.openPacked()
}

// Run works until ctx ends, or the input does, or the kernel is taken over. When
// ctx ends, everything taken in goes through the pump, and shipping has
// ShutdownTimeout to finish, while the kernel is still read; when abort ends too, that
// is not waited for.
func (a *Agent) Run(ctx, abort context.Context) error {
	sendCtx, stopSending := context.WithCancel(context.Background())
	defer stopSending()
	sent := make(chan struct{})
	if a.sender != nil {
		go func() { a.sender.Run(sendCtx); close(sent) }()
	} else {
		close(sent)
	}
	a.serve()
	var err error
	begun := a.cfg.Now()
	switch {
	case a.kernel != nil:
		err = a.runKernel(ctx, abort)
	case a.cfg.Source != SourceNone:
		err = a.runLines(ctx, abort)
	}
	close(a.over)
	pluginsEnded := make(chan error, 1)
	go func() { pluginsEnded <- a.closePlugins() }()
	if a.sender != nil {
		err = errors.Join(err, a.finish(ctx, abort))
	}
	err = errors.Join(err, <-pluginsEnded)
	stopSending()
	<-sent
	a.summary(begun)
	return err
}

// runKernel pumps until the listener has ended and its queue is empty.
func (a *Agent) runKernel(ctx, abort context.Context) error {
	done := make(chan error, 1)
	daemon := a.isDaemon()
	// The reader first: the start record may have to wait for a disk. It is still
	// the first in the stream, as the queue is read after it.
	reading, leave := context.WithCancel(context.Background())
	defer leave()
	go func() { done <- a.kernel.Run(reading) }()
	defer a.leaveLast(ctx, abort, leave)()
	if daemon {
		a.emit(a.own.start(a.pump.enrich != nil))
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	q := a.kernel.Queue()
	for over := false; !over; {
		select {
		case <-q.Ready():
			// What was put before Close is there: look after, not before.
			over = q.Closed()
			for b := q.TryTake(); b != nil; b = q.TryTake() {
				a.block(b)
				q.Release(b)
			}
		case f := <-a.cmds:
			f()
		case <-tick.C:
			a.announce(false)
			if ctx.Err() == nil { // else we have switched it off ourselves
				a.sayUnheard()
			}
			a.tick()
		}
	}
	err := <-done
	a.announce(true)
	switch {
	case daemon && err != nil:
		a.emit(a.own.abort("read-kernel"))
	case daemon:
		a.recordSignal(tables.DaemonEnd, "terminate")
	}
	return err
}

// openSerials opens the state file of the kernel's serials. Only a file of somebody
// else's that was named ends the start: without it the trail is taken in as well.
func (a *Agent) openSerials() (*kernel.LastSerial, error) {
	if a.cfg.StateFile == "" {
		return nil, nil
	}
	var last *kernel.LastSerial
	id, err := boot.ID("")
	if err == nil {
		a.serials, last, err = openSerialFile(a.cfg.StateFile, id)
	}
	if err != nil && (a.cfg.StateUnnamed || !errors.Is(err, ErrStateFile)) {
		a.cfg.Logger.Warn("what the kernel makes until the next start will not be counted", "state", a.cfg.StateFile, "error", err)
		err = nil
	}
	return last, err
}

// block hands on one block of kernel records.
func (a *Agent) block(b *kernel.Block) {
	a.pump.reset()
	for i := range b.Len() {
		a.pump.record(b.Record(i))
	}
	a.serials.note(b)
	a.pump.commitOrCount()
	a.saveSerials()
}

func (a *Agent) saveSerials() {
	if err := a.serials.save(a.cfg.Now()); err != nil {
		a.cfg.Logger.Warn("the next start will count too much as missing: how far the kernel's records were taken in can't be kept", "state", a.cfg.StateFile, "error", err)
	}
}

// keepSerials has the state file of the kernel's serials keep its name.
func (a *Agent) keepSerials() {
	switch fresh, err := a.serials.keepName(); {
	case !fresh:
	case err != nil:
		a.cfg.Logger.Warn("the state file was removed, renamed or replaced by another program and can't be made again: what the kernel makes until the next start will not be counted", "state", a.cfg.StateFile, "error", err)
	default:
		a.cfg.Logger.Warn("the state file had been removed or renamed by another program and is made again", "state", a.cfg.StateFile)
	}
}

// emit hands on records of ours.
func (a *Agent) emit(records ...kernel.Record) {
	a.pump.reset()
	for _, r := range records {
		a.pump.record(r)
	}
	a.pump.commitOrCount()
}

// do has the pump run f, if it still runs.
func (a *Agent) do(f func()) {
	select {
	case a.cmds <- f:
	case <-a.over:
	}
}

func (a *Agent) closePlugins() error {
	if a.plugins == nil {
		return nil
	}
	return a.plugins.Close()
}

// Close releases everything. It may be called again, and after a failed Open.
func (a *Agent) Close() error {
	var errs []error
	if a.kernel != nil {
		errs = append(errs, a.kernel.Close())
	}
	errs = append(errs, a.closePlugins())
	if l := a.log.Load(); l != nil {
		errs = append(errs, l.Close())
	}
	errs = append(errs, a.act.close())
	if a.reader != nil {
		a.reader.Close()
	}
	if a.spool != nil {
		errs = append(errs, a.spool.Close())
	}
	if a.input != nil && a.input != a.cfg.Stdin {
		errs = append(errs, a.input.Close())
		a.input = nil
	}
	if a.cfg.Names != nil {
		a.cfg.Names.Close()
	}
	a.keepSerials()
	errs = append(errs, a.serials.close(), a.stopServing(), a.removeReport(), a.removePID())
	a.serials = nil
	return errors.Join(errs...)
}
