package agent

import (
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
)

// lossesBefore returns up to where earlier runs said what the kernel had lost in this
// boot: from the boot on when none did. nil: it can't be told, and nothing is said, or
// each start would say the same losses again.
func (k *kernelSource) lossesBefore() *kernel.LossesSaid {
	if k.multicast || k.cfg.Boot.Path == "" {
		return nil
	}
	note, err := k.cfg.Boot.Read()
	if err != nil {
		k.cfg.Logger.Warn("what the kernel lost before this start will not be said", "note", k.cfg.Boot.Path, "error", err)
		return nil
	}
	if note.Said {
		return &kernel.LossesSaid{Counter: note.Lost, At: note.At}
	}
	now := k.cfg.Now()
	up, err := boot.Uptime(k.cfg.Boot.Root)
	if err != nil {
		k.cfg.Logger.Debug("when this machine booted is not known", "error", err)
	}
	return &kernel.LossesSaid{At: now.Add(-up)}
}

// keepLosses notes, for the next start in this boot, that the stream says what the kernel
// had lost up to this value of its counter. It is called after that was handed on.
func (k *kernelSource) keepLosses(counter uint32) {
	if k.multicast || k.cfg.Boot.Path == "" || k.lossesKept && k.lostKept == counter {
		return
	}
	k.lossesKept, k.lostKept = true, counter
	err := k.cfg.Boot.Update(func(n *boot.Note) { n.Said, n.Lost, n.At = true, counter, k.cfg.Now() })
	if err != nil {
		k.cfg.Logger.Warn("the next start may say once more what the kernel has lost", "note", k.cfg.Boot.Path, "error", err)
	}
}

// onTheCommandLine is what keeps processes from being older than auditing.
const onTheCommandLine = "boot with audit=1 audit_backlog_limit=8192 on the kernel's command line, or restart these services now; " +
	"journald's Audit=yes (journald.conf) switches auditing on early, Audit=no off"

// checkBoot notes that auditing is on, and warns when there are processes that can't be
// audited because they are older.
func (k *kernelSource) checkBoot() {
	b := k.cfg.Boot
	if b.Path == "" {
		return
	}
	k.alone = k.multicast && boot.FirstNetworkNamespace(b.Root) == boot.No
	found, switched, ok := k.listener.Found()
	cmdline, err := boot.Cmdline(b.Root)
	switch {
	case err != nil:
		k.cfg.Logger.Debug("the kernel's command line can't be read", "error", err)
	case boot.ParamOf(cmdline) == boot.On:
		return // every process was made with auditing on
	}
	if !ok || found.Enabled == 0 && !switched {
		return
	}
	if err := b.Enabled(switched); err != nil {
		k.cfg.Logger.Debug("when auditing was first on in this boot can't be noted", "note", b.Path, "error", err)
	}
	note, err := b.Read()
	if err != nil || note.Enabling == boot.Never {
		note = boot.Note{Enabling: boot.Found}
		if note.Since, err = boot.Uptime(b.Root); err != nil {
			return
		}
	}
	list, err := boot.Processes(b.Root)
	if err != nil {
		k.cfg.Logger.Debug("the processes can't be listed", "error", err)
		return
	}
	older := boot.Older(list, note.Since)
	k.invisible = len(older)
	if len(older) == 0 {
		return
	}
	const shown = 8
	if note.Enabling == boot.Switched {
		k.cfg.Logger.Warn("processes are invisible: the kernel records no system call of those that were started before auditing was first switched on",
			"processes", len(older), "first-and-largest", boot.Names(older, shown), "auditing-since", "boot+"+note.Since.Round(time.Second).String(), "todo", onTheCommandLine)
		return
	}
	k.cfg.Logger.Warn("processes may be invisible: this machine was booted without audit=1, and another program switched auditing on, when is not known; the kernel records no system call of processes that are older than that",
		"processes-at-most", len(older), "first-and-largest", boot.Names(older, shown), "todo", onTheCommandLine)
}

func (k *kernelSource) unready() string {
	if k.alone {
		return "the kernel sends the multicast group's records to the network namespace that the machine booted with, and this process is in another one: run it in the host's (a container: host network)"
	}
	_, _, ok := k.listener.Found()
	if ok && k.listener.Stats().Kernel.Enabled == 0 && (k.multicast || k.cfg.Kernel.Enable != kernel.Disable) {
		return "auditing is off: the kernel makes no records; auditctl -e 1 (or forwarder ctl -e 1) switches it on, audit=1 on the kernel's command line from the boot on"
	}
	return ""
}

// logUnready logs that no record can come, and that they can again.
func (k *kernelSource) logUnready() {
	why := k.unready()
	if why == k.unreadyWas {
		return
	}
	k.unreadyWas = why
	if why == "" {
		k.cfg.Logger.Info("auditing is on: records can come")
		return
	}
	k.cfg.Logger.Warn("no record comes: " + why)
}
