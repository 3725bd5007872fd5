package qupath.lib.io;

import com.google.gson.Gson;

public class GsonTools {

    private GsonTools() {
    }

    public static Gson getInstance() {
        return null;
    }
}
