//go:build conformance

package conformance

// mqtt311 has a case for each statement of MQTT 3.1.1 that a server can be asked
// about.
func mqtt311() []entry {
	return []entry{
		{"MQTT-1.5.3-1", badTexts("\xED\xA0\x80", "\xC0\xAF", "\xFF")},
		{"MQTT-1.5.3-2", badTexts("\x00", "a\x00b")},
		{"MQTT-1.5.3-3", byteOrderMark},
		{"MQTT-2.2.2-1", reservedFlags},
		{"MQTT-2.2.2-2", reservedFlags},
		{"MQTT-2.3.1-1", identifierZero},
		{"MQTT-2.3.1-4", identifiersInUse},
		{"MQTT-2.3.1-5", qos0HasNoIdentifier},
		{"MQTT-2.3.1-6", ackIdentifiers},
		{"MQTT-2.3.1-7", subackIdentifiers},

		{"MQTT-3.1.0-1", firstIsConnect},
		{"MQTT-3.1.0-2", secondConnect},
		{"MQTT-3.1.2-1", protocolName},
		{"MQTT-3.1.2-2", protocolLevel},
		{"MQTT-3.1.2-3", reservedConnectFlag},
		{"MQTT-3.1.2-4", resumes},
		{"MQTT-3.1.2-5", queues},
		{"MQTT-3.1.2-6", cleanDiscards},
		{"MQTT-3.1.2-7", retainedOutlivesSession},
		{"MQTT-3.1.2-8", each(willIsPublished, willOnProtocolError)},
		{"MQTT-3.1.2-9", willNeedsFields},
		{"MQTT-3.1.2-10", willIsRemoved},
		{"MQTT-3.1.2-11", each(willFlags(0x0A), willFlags(0x22))},
		{"MQTT-3.1.2-12", noWillWithoutFlag},
		{"MQTT-3.1.2-13", each(willFlags(0x0A), willFlags(0x12))},
		{"MQTT-3.1.2-14", willFlags(0x1E)},
		{"MQTT-3.1.2-15", willFlags(0x22)},
		{"MQTT-3.1.2-16", willNotRetained},
		{"MQTT-3.1.2-17", willRetained},
		{"MQTT-3.1.2-18", userNotAnnounced},
		{"MQTT-3.1.2-19", userMissing},
		{"MQTT-3.1.2-20", passwordNotAnnounced},
		{"MQTT-3.1.2-21", passwordMissing},
		{"MQTT-3.1.2-22", passwordWithoutUser},
		{"MQTT-3.1.2-24", keepAliveEnds},
		{"MQTT-3.1.3-1", payloadOrder},
		{"MQTT-3.1.3-2", identifierIsTheSession},
		{"MQTT-3.1.3-3", identifierMissing},
		{"MQTT-3.1.3-4", identifierText},
		{"MQTT-3.1.3-5", identifierOf23},
		{"MQTT-3.1.3-6", identifierAssigned},
		{"MQTT-3.1.3-7", emptyIdentifierNeedsClean},
		{"MQTT-3.1.3-8", emptyIdentifierNeedsClean},
		{"MQTT-3.1.3-9", strangeIdentifier},
		{"MQTT-3.1.3-10", willTopicText},
		{"MQTT-3.1.3-11", userNameText},
		{"MQTT-3.1.4-1", malformedConnect},
		{"MQTT-3.1.4-2", takeover},
		{"MQTT-3.1.4-3", each(cleanDiscards, resumes)},
		{"MQTT-3.1.4-4", acceptedIsZero},
		{"MQTT-3.1.4-5", nothingAfterRefusal},

		{"MQTT-3.2.0-1", connackFirst},
		{"MQTT-3.2.2-1", cleanDiscards},
		{"MQTT-3.2.2-2", resumes},
		{"MQTT-3.2.2-3", newSessionIsNotPresent},
		{"MQTT-3.2.2-4", refusalForgetsPresent},
		{"MQTT-3.2.2-5", refusalCloses},
		{"MQTT-3.2.2-6", undefinedReason},

		{"MQTT-3.3.1-1", each(resent(1), resent(2))},
		{"MQTT-3.3.1-2", dupOfQoS0},
		{"MQTT-3.3.1-3", dupIsOurs},
		{"MQTT-3.3.1-4", bothQoSBits},
		{"MQTT-3.3.1-5", retainReplaces},
		{"MQTT-3.3.1-6", retainedForEachTopic},
		{"MQTT-3.3.1-7", retainedQoS0},
		{"MQTT-3.3.1-8", retainForNew},
		{"MQTT-3.3.1-9", retainForOld},
		{"MQTT-3.3.1-10", emptyRemoves},
		{"MQTT-3.3.1-11", emptyIsNotStored},
		{"MQTT-3.3.1-12", withoutRetain},
		{"MQTT-3.3.2-1", topicText},
		{"MQTT-3.3.2-2", wildcardTopic},
		{"MQTT-3.3.2-3", topicsMatch},
		{"MQTT-3.3.4-1", respondsByQoS},
		{"MQTT-3.3.5-1", overlapping},
		{"MQTT-3.3.5-2", publishToSys},
		{"MQTT-3.6.1-1", pubrelFlags},

		{"MQTT-3.8.1-1", subscribeFlags},
		{"MQTT-3.8.3-1", subscribeText},
		{"MQTT-3.8.3-2", wildcardsWork},
		{"MQTT-3.8.3-3", subscribeEmpty},
		{"MQTT-3.8.3-4", subscribeReserved}, // the standard prints it as MQTT-3-8.3-4
		{"MQTT-3.8.4-1", subscribeIsAnswered},
		{"MQTT-3.8.4-2", subackIdentifiers},
		{"MQTT-3.8.4-3", each(subscriptionReplaced, replacedWithoutLoss)},
		{"MQTT-3.8.4-4", manyFilters},
		{"MQTT-3.8.4-5", manyFilters},
		{"MQTT-3.8.4-6", lowerQoS},
		{"MQTT-3.9.3-1", codesInOrder},
		{"MQTT-3.9.3-2", each(codesInOrder, subscribeIsAnswered)},

		{"MQTT-3.10.1-1", unsubscribeFlags},
		{"MQTT-3.10.3-1", unsubscribeText},
		{"MQTT-3.10.3-2", unsubscribeEmpty},
		{"MQTT-3.10.4-1", unsubscribeCompares},
		{"MQTT-3.10.4-2", unsubscribeStops},
		{"MQTT-3.10.4-3", unsubscribeCompletes},
		{"MQTT-3.10.4-4", subackIdentifiers},
		{"MQTT-3.10.4-5", unsubscribeIsAnswered},
		{"MQTT-3.10.4-6", unsubscribeMany},
		{"MQTT-3.12.4-1", pingIsAnswered},
		{"MQTT-3.14.1-1", disconnectFlags},
		{"MQTT-3.14.4-2", nothingAfterDisconnect},
		{"MQTT-3.14.4-3", disconnectDiscardsWill},

		{"MQTT-4.1.0-1", each(resumes, queues)},
		{"MQTT-4.1.0-2", sessionWhileConnected},
		{"MQTT-4.3.1-1", firstIsNoDup(0)},
		{"MQTT-4.3.2-1", each(firstIsNoDup(1), resent(1), identifiersInUse)},
		{"MQTT-4.3.2-2", receiverQoS1},
		{"MQTT-4.3.3-1", each(firstIsNoDup(2), resent(2), senderQoS2)},
		{"MQTT-4.3.3-2", receiverQoS2},
		{"MQTT-4.4.0-1", each(resent(1), resent(2), senderQoS2)},
		{"MQTT-4.5.0-1", addedToEachSession},
		{"MQTT-4.6.0-1", resentInOrder},
		{"MQTT-4.6.0-5", each(inOrder, burstInOrder)},
		{"MQTT-4.6.0-6", each(inOrder, burstInOrder)},
		{"MQTT-4.7.1-1", wildcardTopic},
		{"MQTT-4.7.1-2", each(badFilters("a/#/b", "a#", "#/a", "##"), wildcardHash)},
		{"MQTT-4.7.1-3", each(badFilters("a+", "+a", "a/b+/c", "++"), wildcardPlus)},
		{"MQTT-4.7.2-1", dollarTopics},
		{"MQTT-4.7.3-1", oneCharacter},
		{"MQTT-4.7.3-2", nullInTopic},
		{"MQTT-4.7.3-3", longTopic},
		{"MQTT-4.7.3-4", noNormalizing},
		{"MQTT-4.8.0-1", badPackets},
		{"MQTT-7.0.0-2", acceptedIsZero},
		{"MQTT-7.1.1-1", acceptedIsZero},
	}
}

// wildcardHash and wildcardPlus are the examples of section 4.7.1, and more.
func wildcardHash(s *suite) {
	matches("#", []string{"a", "a/b", "/", "/a", "a/"}, nil)(s)
	matches("a/#", []string{"a", "a/", "a/b", "a/b/c"}, []string{"b", "ab", "A/b"})(s)
}

func wildcardPlus(s *suite) {
	matches("a/+", []string{"a/b", "a/"}, []string{"a", "a/b/c", "b/b"})(s)
	matches("+", []string{"a", "b"}, []string{"/a", "a/", "a/b"})(s)
	matches("+/+", []string{"/a", "a/", "a/b"}, []string{"a"})(s)
	matches("/+", []string{"/a", "/"}, []string{"a", "a/b"})(s)
	matches("a/+/c", []string{"a/b/c", "a//c"}, []string{"a/c", "a/b/b/c"})(s)
}
