package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// isRunning is the state of a collector of which nothing is said.
const isRunning = "running"

// inCluster is which collectors of a cluster have received from a host, the latest first.
func (l *hostList) inCluster(h *fleet.Host) (list []collectorRow) {
	state := map[string]string{}
	for _, c := range l.cluster {
		if c.GetState() != isRunning {
			state[c.GetName()] = c.GetState()
		}
	}
	for _, at := range h.GetAt() {
		list = append(list, collectorRow{
			Collector: at.GetCollector(), Connected: at.GetConnected(), Records: at.GetReceived(), LastSeen: utc(at.GetLastSeenMs()),
			Unstored: at.GetReceived() - min(at.GetStored(), at.GetReceived()), State: state[at.GetCollector()],
		})
	}
	return list
}

// sayCluster says which collectors do not run, and what only they may have.
func (l *hostList) sayCluster(errs io.Writer) {
	for _, c := range l.cluster {
		at := time.UnixMilli(c.GetSeenMs()).Format("01/02/2006 15:04:05")
		var line string
		switch c.GetState() {
		case "silent":
			line = fmt.Sprintf("hosts: the collector %s was not heard of since %s; by then it had received %d records that it had not stored: they are found once it runs again", c.GetName(), at, c.GetUnstored())
			line += fmt.Sprintf(" (if it is lost: collector hosts --forget-collector %s)", c.GetName())
		case "unheard":
			line = fmt.Sprintf("hosts: whether the collector %s runs is not known: it wrote last at %s, and the one that answers has not looked for half a minute yet", c.GetName(), at)
		case "lost":
			line = fmt.Sprintf("hosts: the collector %s is gone for good, heard of last at %s; what was lost with it coverage says, by host", c.GetName(), at)
		case "stopped":
			line = fmt.Sprintf("hosts: the collector %s was stopped at %s, and holds nothing back", c.GetName(), at)
		default:
			continue
		}
		fmt.Fprintln(errs, terminal.Clean(line))
	}
}

// forgetCollector says that a collector of the cluster is gone for good.
func (p *program) forgetCollector(ctx context.Context, w where, name string) error {
	if err := w.check(); err != nil {
		return err
	}
	src, err := w.open(ctx, p)
	if err != nil {
		return err
	}
	client, ok := src.(*api.Client)
	if !ok {
		_, files := src.(*server.ReadOnly)
		err := command.Wrongf("--forget-collector: a collector that runs is asked, and none does on this store")
		if !files {
			err = command.Wrongf("--forget-collector: one collector is asked")
		}
		return errors.Join(err, src.Close())
	}
	c, losses, err := client.ForgetCollector(ctx, name)
	if err = errors.Join(err, client.Close()); err != nil {
		return err
	}
	out := p.stdio.Out
	fmt.Fprintf(out, "%s is gone for good; it was heard of last at %s\n", terminal.Clean(c.GetName()), time.UnixMilli(c.GetSeenMs()).Format("01/02/2006 15:04:05"))
	total := uint64(0)
	for _, l := range losses {
		host := string(l.GetHost())
		if host == "" {
			host = "(others)"
		}
		fmt.Fprintf(out, "lost with it: %d records of %s\n", l.GetRecords(), terminal.Clean(host))
		total += l.GetRecords()
	}
	fmt.Fprintf(out, "records lost: %d, of %d hosts; and those that it received in the last seconds before that time was written, if any\n", total, len(losses))
	return nil
}
