MARK = "# tci-agent"
NAME = "_tci_agent"
