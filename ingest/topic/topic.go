// Package topic finds who subscribed to a topic, and which retained messages a filter means.
package topic

import "strings"

// Matches says whether filter means topic (MQTT 5, 4.7): '+' stands for one level,
// which may be empty, and a last '#' for its parent level and all below it. A
// filter that starts with a wildcard does not mean topics that start with '$'
// (4.7.2). Its time is linear, it allocates nothing, and it may be called at once.
//
// The filter is without `$share/group/`: see SplitShare. A filter that MQTT does
// not allow is not an error: a '#' before the last level means nothing, and
// wildcards within a level are plain text.
func Matches(filter, topic string) bool {
	wild := !strings.HasPrefix(topic, "$")
	moreFilter, moreTopic := true, true
	for moreFilter {
		var want, level string
		want, filter, moreFilter = strings.Cut(filter, "/")
		if want == "#" {
			return wild && !moreFilter
		}
		if !moreTopic {
			return false
		}
		level, topic, moreTopic = strings.Cut(topic, "/")
		if want == "+" && !wild || want != "+" && want != level {
			return false
		}
		wild = true
	}
	return !moreTopic
}

// SplitShare takes the filter of a shared subscription, `$share/group/rest`, apart
// (MQTT 5, 4.8.2). Of any other filter it returns shared false, and rest is the
// filter as it is; so it is of one with an empty group or no rest, which MQTT does
// not allow.
func SplitShare(filter string) (group, rest string, shared bool) {
	after, found := strings.CutPrefix(filter, "$share/")
	if !found {
		return "", filter, false
	}
	group, rest, found = strings.Cut(after, "/")
	if !found || group == "" || rest == "" {
		return "", filter, false
	}
	return group, rest, true
}
