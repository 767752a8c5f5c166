package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// shippedAuditd is what a distribution's auditd.conf sets beyond the built-in
// defaults: without any file the log must be bounded too.
func shippedAuditd() conf.Auditd {
	c := conf.DefaultAuditd()
	c.LogFormat = conf.LogRaw
	c.Freq, c.MaxLogFile, c.NumLogs, c.MaxLogFileAction = 50, 8, 5, conf.Action{Do: conf.DoRotate}
	return c
}

// queueFull decides what happens while the kernel's queue is full. An overflow_action
// that stops the host counts as wait: who wants that for a plugin's records does not want
// them dropped before.
func (o *runFlags) queueFull(ac conf.Auditd, f *conf.File, logger hclog.Logger) (full kernel.Full) {
	full.Key = "queue_full_action"
	switch {
	case o.source != agent.SourceKernel && f.Has(full.Key):
		logger.Warn(full.Key+" has no effect: only the registered daemon can leave records to the kernel", "file", f.Path, "line", f.Line(full.Key), "source", o.source)
	case ac.QueueFull == conf.QueueFullWait:
		full.When = kernel.FullWait
	case ac.QueueFull == conf.QueueFullDrop:
		full.When = kernel.FullDrop
	case ac.OverflowAction.Do == conf.DoSingle || ac.OverflowAction.Do == conf.DoHalt:
		full = kernel.Full{When: kernel.FullWait, Key: "overflow_action"}
	}
	return full
}

// auditd reads auditd.conf: the one named, or for the kernel source the host's
// own if there is one. The file is nil when none was read.
func (o *runFlags) auditd(given func(string) bool, logger hclog.Logger) (conf.Auditd, *conf.File, error) {
	path := o.config
	if !given("config") {
		if o.source != agent.SourceKernel {
			return shippedAuditd(), nil, nil
		}
		if _, err := os.Stat(auditdConf); errors.Is(err, fs.ErrNotExist) {
			return shippedAuditd(), nil, nil
		}
		path = auditdConf
		logger.Info("configuration", "file", path)
	}
	load := conf.LoadSecure
	if given("config") && !o.refuseLinks {
		load = conf.LoadLinked
	}
	ac := conf.DefaultAuditd()
	f, err := load(path, append(auditdTable(&ac).Schema(), conf.IgnoredOnHost()...))
	if f != nil {
		err = ac.Validate(f)
	}
	if err != nil {
		return ac, f, fmt.Errorf("--config: %w%s", err, o.linkHint(err))
	}
	warn(f, logger)
	return ac, f, o.serverKeys(ac, f, logger)
}

// linkHint says how a symbolic link that was refused is followed.
func (o *runFlags) linkHint(err error) string {
	switch {
	case !errors.Is(err, unix.ELOOP):
		return ""
	case o.refuseLinks:
		return "; or give -l, which follows root's links"
	}
	return "; or name it with --config, which follows root's links"
}

// serverKeys refuses the keys that make the stock daemon a server. The other keys of a
// server have no effect without these, and the file that distributions ship has them.
func (o *runFlags) serverKeys(ac conf.Auditd, f *conf.File, logger hclog.Logger) error {
	for _, k := range []struct {
		key, why string
		bad      bool
	}{
		{"tcp_listen_port", "the forwarder does not listen: collector serve --listen :" + strconv.Itoa(ac.TCPListenPort) + " does; remove the line", f.Has("tcp_listen_port")},
		{"distribute_network", "the forwarder receives nothing from the network: collector serve does; remove the line", ac.DistributeNetwork},
		{"local_events", "nothing is left to do for --source kernel: collector serve is the server", f.Has("local_events") && !ac.LocalEvents},
	} {
		switch {
		case !k.bad:
		case o.source != agent.SourceKernel:
			logger.Debug("a key has no effect with this source", "file", f.Path, "line", f.Line(k.key), "key", k.key)
		default:
			return fmt.Errorf("--config: %w", &conf.Error{File: f.Path, Line: f.Line(k.key), Msg: k.key + " = " + f.Value(k.key) + " is not for the forwarder", Hint: k.why})
		}
	}
	return nil
}

func warn(f *conf.File, logger hclog.Logger) {
	for _, w := range f.Warnings {
		logger.Warn(w.Error())
	}
}

// localLog decides on the local log: the audit daemon has one; beside another
// daemon, or fed by one, its log is already there.
func (o *runFlags) localLog(cfg *agent.Config, ac conf.Auditd, logger hclog.Logger) error {
	path := ac.LogFile
	switch {
	case o.logFile == "none":
		return nil
	case o.logFile != "":
		path = o.logFile
	case o.source != agent.SourceKernel || !ac.WriteLogs:
		return nil
	}
	if path == o.source {
		return command.Wrongf("--log-file: %s is the source", path)
	}
	flush, err := locallog.ParseFlush(string(ac.Flush))
	if err != nil {
		return err
	}
	action, err := locallog.ParseAction(string(ac.MaxLogFileAction.Do))
	if err != nil {
		return err
	}
	if ac.MaxLogFile > 0 && action == locallog.ActionRotate && ac.NumLogs < 2 {
		logger.Warn("num_logs is less than 2: the local log is not rotated and grows without bound")
	}
	cfg.Log = locallog.Config{
		Path: path, Flush: flush, Freq: ac.Freq, MaxSize: int64(min(ac.MaxLogFile, math.MaxInt64>>20)) << 20,
		NumLogs: ac.NumLogs, Action: action, GID: ac.LogGroup,
		Compress: ac.LogCompress == conf.CompressZstd, Dated: ac.RotatedNames == conf.NamesDated,
		SpaceLeft: ac.SpaceLeft, SpaceLeftAction: ac.SpaceLeftAction,
		AdminSpaceLeft: ac.AdminSpaceLeft, AdminSpaceLeftAction: ac.AdminSpaceLeftAction,
		DiskFullAction: ac.DiskFullAction, DiskErrorAction: ac.DiskErrorAction,
	}
	return nil
}

// plugins reads plugin_dir. A file that is wrong costs its own plugin only.
func (o *runFlags) plugins(cfg *agent.Config, ac conf.Auditd, logger hclog.Logger) {
	if o.source != agent.SourceKernel {
		return
	}
	list, err := conf.LoadPlugins(ac.PluginDir)
	switch {
	case err == nil:
	case list == nil && errors.Is(err, fs.ErrNotExist):
		logger.Debug("no plugins", "error", err)
	default:
		logger.Error("not all plugins can be used", "error", err)
		o.faults = append(o.faults, err)
	}
	cfg.Plugins = &dispatch.Config{
		Settings: dispatch.Settings{Depth: ac.QDepth, Overflow: ac.OverflowAction.Do, MaxRestarts: ac.MaxRestarts},
		Plugins:  list, Stderr: os.Stderr,
	}
}

func (o *runFlags) nodeName(ctx context.Context, given func(string) bool, ac conf.Auditd) (string, error) {
	if given("node") {
		name, err := agent.Node(ctx, agent.NameUser, o.node)
		if err != nil {
			return "", command.Wrongf("--node: %w", err)
		}
		return name, nil
	}
	format, err := agent.ParseNameFormat(string(ac.NameFormat))
	if err != nil {
		return "", err
	}
	return agent.Node(ctx, format, ac.Name)
}
