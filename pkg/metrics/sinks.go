package metrics

// SinkSample holds the numbers of one sink of alerts.
type SinkSample struct {
	Sink        string  `label:"sink"`
	Delivered   uint64  `metric:"alert_sink_delivered_total" help:"Notices of alerts that a sink has taken."`
	Failed      uint64  `metric:"alert_sink_failures_total" help:"Deliveries to a sink that failed and are tried again."`
	Full        uint64  `metric:"alert_sink_dropped_total" help:"Notices dropped because more waited for a sink than queue_notices or queue_bytes allow."`
	Refused     uint64  `metric:"alert_sink_refused_total" help:"Notices dropped because the sink refused them for good."`
	Queued      int     `metric:"alert_sink_queue_notices" help:"Notices waiting for a sink."`
	Up          bool    `metric:"alert_sink_up" help:"0 while a sink takes nothing and is tried again."`
	LastSuccess float64 `metric:"alert_sink_last_success_seconds" help:"When a sink last took something, seconds since the epoch; 0 for not since the start."`
}

// ReadSinks registers the metrics of the sinks of alerts.
func ReadSinks(r *Registry, each func(yield func(SinkSample))) {
	readEach(r, collector, each)
}
